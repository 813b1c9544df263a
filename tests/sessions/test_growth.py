"""R120: a store under retention does not grow: its size depends on what is kept, not on what ever ran.

Every row goes the way that rows go (start, claim, checkpoint, settle, prune); the clock alone is the test's.
"""

from __future__ import annotations

import os
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import func, insert, select, text

from celery_cascade import Cascades
from celery_cascade.persistence import tables
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Base
from celery_cascade.persistence.rows import Checkpoint, NewStep, Setback, StepKey
from celery_cascade.persistence.store import Store
from celery_cascade.states import Halt
from contract.kit import Clock, new_session, worker_row

#: The whole of what R120 asks for, in some minutes: CASCADE_GROWTH_SESSIONS=50000.
SESSIONS = int(os.environ.get("CASCADE_GROWTH_SESSIONS", "2500"))
FIRST = SESSIONS // 10
#: Seconds of the clock from one start to the next: definitions are kept for an hour, and 5,000 take longer.
APART = 1.0 if SESSIONS >= 50_000 else 20.0
PRUNE_EVERY = 300.0
MINUTE = timedelta(minutes=1)
RETENTION = {"completed": MINUTE, "failed": MINUTE, "cancelled": MINUTE, "expired": MINUTE, "keep_last": 20}
CALL = '{"args":[],"kwargs":{"text":"' + "x" * 150 + '"}}'


class Life:
    """A store and sessions that come and go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        url = f"sqlite:///{path}"
        app = Celery("growth", broker="memory://", set_as_current=False, cascade_retention=RETENTION)
        app.conf.cascade_database_url = url
        self.cascades = Cascades(app)
        self.clock = Clock()
        self.store = self.cascades.runtime._store = Store(Database(url), clock=self.clock)
        self.deleted = 0
        self.pruned_at = self.clock()

    def live(self, number: int) -> None:
        """One session, from its start to its end; some of them fail at first, for good, or are cancelled."""
        if number % 200 == 0:
            self.store.add_worker(worker_row(f"w{number}"))
            self.store.stop_worker(f"w{number - 200}")
        new = new_session(
            cascade_id=f"cascade{number % 5}",
            digest=f"{number // 100:064}",
            body=b"cascade: x\n" + b"# " * 300,
            input_data='{"text":"' + "y" * 200 + '"}',
            expires_in=3600.0,
        )
        self.store.start(new, [NewStep(step="a", status="queued", task="shop.task", call=CALL)])
        key = StepKey(new.session_id, "a")
        if number % 50 == 1:
            self._note_thread(new.session_id)
            self.store.halt(new.session_id, Halt.CANCELLED, "enough")
        else:
            attempt = self._fail_once(key, number) if number % 25 == 0 else 1
            self._end(key, number, attempt)
        assert self.store.settle(new.session_id, output='"' + "z" * 300 + '"') is not None
        self.clock.forward(APART)
        if (self.clock() - self.pruned_at).total_seconds() >= PRUNE_EVERY:
            self.pruned_at = self.clock()
            self.deleted += self.cascades.prune().deleted

    def _claim(self, key: StepKey, attempt: int) -> str:
        token = uuid.uuid4().hex
        assert self.store.claim(key, attempt=attempt, token=token, worker="w0", runner="r1") is not None
        return token

    def _fail_once(self, key: StepKey, number: int) -> int:
        what = Setback(key=key, token=self._claim(key, 1), kind="failure", delay=0.0, error='{"type":"ValueError"}')
        self.store.setback(what)
        return 2

    def _end(self, key: StepKey, number: int, attempt: int) -> None:
        token = self._claim(key, attempt)
        if number % 40 == 7:
            self.store.setback(Setback(key=key, token=token, kind="failure", delay=None, error='{"type":"KeyError"}'))
            return
        done = Checkpoint(key=key, token=token, status="succeeded", output='"' + "o" * 300 + '"', phase="a", closed=1)
        self.store.checkpoint(done)

    def _note_thread(self, session: str) -> None:
        values = {"thread_id": session, "resource_id": "r", "session_id": session}
        values |= {"created_at": self.clock(), "updated_at": self.clock()}
        self.store.database.transaction(lambda conn: conn.execute(insert(tables.mappings), values))

    @property
    def size(self) -> int:
        """Bytes of the file, with all that is in its log."""
        with self.store.database.autocommit() as conn:
            conn.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).all()
        return self.path.stat().st_size

    def rows(self) -> dict[str, int]:
        with self.store.database.read() as conn:
            return {
                str(table.name): conn.execute(select(func.count()).select_from(table)).scalar() or 0
                for table in Base.metadata.sorted_tables
            }


@pytest.mark.slow
def test_a_store_under_retention_does_not_grow(sqlite_store: str) -> None:
    """R120: after ten times as many sessions the file is at most 1.2 times as large; nothing of any kind piles up."""
    life = Life(Path(sqlite_store.removeprefix("sqlite:///")))
    for number in range(FIRST):
        life.live(number)
    first, rows_first = life.size, life.rows()
    for number in range(FIRST, SESSIONS):
        life.live(number)
    last, rows_last = life.size, life.rows()
    print(f"{FIRST:,} sessions: {first:,} bytes; {SESSIONS:,}: {last:,} bytes; {rows_last}")

    alive = rows_last["cascade_sessions"]
    assert life.deleted + alive == SESSIONS
    assert alive <= 5 * 20 + (PRUNE_EVERY + 60) / APART + 1
    assert last <= 1.2 * first, (first, last, rows_first, rows_last)
    for table in ("session_states", "session_steps"):
        assert rows_last[table] == alive
    for table, most in (("step_attempts", alive), ("session_mappings", alive), ("cascade_sweeps", 9)):
        assert rows_last[table] <= most
    hour = 3600 / APART
    assert rows_last["cascade_definitions"] <= hour / 100 + 2 + alive
    assert rows_last["cascade_workers"] <= hour / 200 + PRUNE_EVERY / APART / 200 + 2
    life.store.database.dispose()
