"""What the contract tests have in hand: a store over a clean database, a clock that they set, and short words."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select

from celery_cascade.persistence import tables
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import (
    Checkpoint,
    ClaimedStep,
    EndStatus,
    Moved,
    NewSession,
    NewStep,
    Orphan,
    Row,
    Setback,
    StepKey,
    WorkerRow,
)
from celery_cascade.persistence.store import Store

NOON = datetime(2030, 5, 17, 12, tzinfo=UTC)
BODY = b"cascade: order\nsteps: []\n"
TABLES = (tables.mappings, tables.steps, tables.sessions, tables.definitions, tables.workers, tables.sweeps)


class Clock:
    """A moment that stands still until a test moves it."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, seconds: float = 0, **more: float) -> datetime:
        self.moment += timedelta(seconds=seconds, **more)
        return self.moment


def new_session(session_id: str | None = None, *, total: int = 1, **more: Any) -> NewSession:
    values: dict[str, Any] = {
        "session_id": session_id or uuid.uuid4().hex[:12],
        "cascade_id": "order",
        "digest": "d" * 64,
        "format": "yaml",
        "body": BODY,
        "input_data": "{}",
        "nonce": uuid.uuid4().hex,
        "total_steps": total,
    }
    return NewSession(**(values | more))


def queued(*steps: str, call: str | None = '{"args":[],"kwargs":{}}') -> list[NewStep]:
    return [NewStep(step=step, status="queued", task="shop.task", call=call) for step in steps]


def skipped(*steps: str) -> list[NewStep]:
    return [NewStep(step=step, status="skipped", task="shop.task", reason="when") for step in steps]


def joins(**needs: int) -> list[NewStep]:
    return [NewStep(step=step, status="pending", task="shop.task", needs_left=left) for step, left in needs.items()]


def worker_row(worker_id: str, **more: Any) -> WorkerRow:
    return WorkerRow(id=worker_id, nodename=f"{worker_id}@host", host="host", pid=7, **more)


class Kit:
    """A store and what tests do with it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Clock()
        self.store = Store(database, clock=self.clock)
        self._empty()

    def _empty(self) -> None:
        def work(conn: Any) -> None:
            for table in TABLES:
                conn.execute(delete(table))

        self.database.transaction(work)

    # -- a session's way
    def start(
        self,
        rows: Sequence[NewStep] | None = None,
        *,
        total: int | None = None,
        worker: str | None = None,
        resend_after: float | None = 60.0,
        **new: Any,
    ) -> str:
        rows = queued("a") if rows is None else rows
        session = new_session(total=len(rows) if total is None else total, **new)
        self.store.start(session, rows, worker=worker, resend_after=resend_after)
        return session.session_id

    def claim(
        self,
        session: str,
        step: str = "a",
        *,
        token: str | None = None,
        worker: str = "w1",
        timeout: float | None = None,
    ) -> ClaimedStep:
        key = StepKey(session, step)
        found = self.store.claim(
            key,
            attempt=self.row(session, step)["attempt"],
            token=token or uuid.uuid4().hex,
            worker=worker,
            runner="r1",
            timeout=timeout,
        )
        assert found is not None, f"{step} could not be claimed: {dict(self.row(session, step))}"
        return found

    def done(
        self,
        claimed: ClaimedStep,
        *followers: str,
        arrivals: Mapping[str, int] | None = None,
        skips: Sequence[str] = (),
        status: EndStatus = "succeeded",
        output: str | None = '"done"',
        **more: Any,
    ) -> Checkpoint:
        return Checkpoint(
            key=claimed.key,
            token=claimed.token,
            status=status,
            output=output,
            phase=claimed.key.step,
            closed=1 + len(skips),
            queued=queued(*followers),
            skipped=skipped(*skips),
            arrivals=arrivals or {},
            worker="w1",
            **more,
        )

    def end(self, claimed: ClaimedStep, *followers: str, **more: Any) -> Moved:
        return self.store.checkpoint(self.done(claimed, *followers, **more))

    def run(self, session: str, step: str = "a", *followers: str, **more: Any) -> Moved:
        """Claim and checkpoint."""
        return self.end(self.claim(session, step), *followers, **more)

    def complete(self, session: str) -> None:
        assert self.store.settle(session, output="null") == "completed"

    def fail(self, claimed: ClaimedStep, delay: float | None = None, **more: Any) -> Moved:
        return self.store.setback(self.setback(claimed, delay, **more))

    def setback(self, claimed: ClaimedStep, delay: float | None = None, **more: Any) -> Setback:
        values: dict[str, Any] = {"kind": "failure", "failures": 1, "error": '{"message":"no"}', "worker": "w2"}
        return Setback(key=claimed.key, token=claimed.token, delay=delay, **(values | more))

    def orphan(self, session: str, step: str = "a") -> Orphan:
        found = self.store.one_running(StepKey(session, step), self.row(session, step)["attempt"])
        assert found is not None
        return found

    # -- looking
    def rows(self, session: str) -> dict[str, Row]:
        return {row["step"]: row for row in self.store.steps(session)}

    def row(self, session: str, step: str = "a") -> Row:
        return self.rows(session)[step]

    def statuses(self, session: str) -> dict[str, str]:
        return {step: row["status"] for step, row in self.rows(session).items()}

    def head(self, session: str) -> Row:
        return self.store.head(session)

    def column(self, column: Any) -> list[Any]:
        with self.database.read() as conn:
            return list(conn.execute(select(column)).scalars())

    def check(self, session: str) -> None:
        """What holds of every session at every moment."""
        head, rows = self.head(session), self.store.steps(session)
        final = [row for row in rows if row["finished_at"] is not None]
        if head["status"] not in ("cancelled", "expired"):
            assert head["open_steps"] == head["total_steps"] - len(final), (dict(head), [dict(row) for row in rows])
        assert max((row["version"] for row in rows), default=1) <= head["version"]
        assert all(row["wake_at"] is None or row["status"] == "queued" for row in rows)
        if head["status"] != "active":
            busy = [row["step"] for row in rows if row["status"] in ("queued", "running")]
            assert not busy, (head["status"], busy)
