"""What must hold in the store after every commit, and how often a body may begin. It knows SQL and no code of ours.

A body begins once under a claim (token). So the bodies of a step are at most 1, and 1 more for each attempt of it that
ended without a checkpoint: one that failed, that asked for a retry or gave itself back, or that was taken from a worker
which was dead, or silent for the heartbeat's timeout by the store's clock. Only a zombie, whose token was taken so, may
begin a body after its step's checkpoint.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from celery_cascade.persistence import codec
from simulation.cases import Case, expected, expected_output

ENDED_WELL = frozenset({"succeeded", "skipped"})
FINAL = ENDED_WELL | {"failed", "cancelled"}
CALLED_OFF = frozenset({"cancelled", "expired"})
HEARTBEAT = "%Y-%m-%d %H:%M:%S.%f"


class Row(NamedTuple):
    status: str
    attempt: int
    token: str | None
    needs_left: int
    worker: str | None
    output: str | None


class Head(NamedTuple):
    status: str
    version: int
    open_steps: int
    total_steps: int


class Oracle:
    """Watches the sessions of one history.

    Args:
        cases: session id -> its cascade.
        wrong: told what is wrong.
        may_take: (worker, token) -> why it must not be taken from it, or None.
    """

    def __init__(
        self, cases: dict[str, Case], wrong: Callable[[str], None], may_take: Callable[[str | None, str], str | None]
    ) -> None:
        self._cases, self._wrong, self._may_take = cases, wrong, may_take
        self.rows: dict[tuple[str, str], Row] = {}
        self.heads: dict[str, Head] = {}
        self.taken: Counter[tuple[str, str]] = Counter()
        self.fenced: set[str] = set()
        self.bodies: Counter[tuple[str, str]] = Counter()
        self._begun: set[str] = set()
        self.takeovers = 0

    def look(self, sql: Callable[[str], list[Any]]) -> None:
        """After a commit."""
        rows = {
            (one[0], one[1]): Row(*one[2:])
            for one in sql(
                "SELECT session_id, step, status, attempt, token, needs_left, worker, output FROM session_steps"
            )
        }
        heads = {
            one[0]: Head(*one[1:])
            for one in sql("SELECT session_id, status, version, open_steps, total_steps FROM session_states")
        }
        for key, row in rows.items():
            if (before := self.rows.get(key)) is not None and before != row:
                self._moved(key, before, row)
        for session, head in heads.items():
            self._check_head(session, head, rows)
        for key in self.rows.keys() - rows.keys():
            self._wrong(f"lost: the row of {key} is gone")
        self.rows, self.heads = rows, heads

    def _moved(self, key: tuple[str, str], before: Row, row: Row) -> None:
        if before.status in ENDED_WELL:
            self._wrong(f"repeated: {key} was {before.status} and is {row.status}, attempt {row.attempt}")
        if row.status == "running" and before.status == "running" and row.token != before.token:
            self._wrong(f"repeated: {key} has a second token while it runs")
        if row.status in ENDED_WELL and before.status == "running" and row.token != before.token:
            self._wrong(f"repeated: {key} was ended by another token than the one that ran it")
        if before.status == "running" and row.status not in ("running", *ENDED_WELL):
            self.taken[key] += 1
            assert before.token is not None
            why = self._may_take(before.worker, before.token)
            if why is not None:
                self._wrong(f"repeated: {key} was taken from {before.worker}: {why}")
            self.fenced.add(before.token)

    def _check_head(self, session: str, head: Head, rows: dict[tuple[str, str], Row]) -> None:
        before = self.heads.get(session)
        if before is not None and head.version - before.version not in (0, 1):
            self._wrong(f"the version of {session} goes from {before.version} to {head.version}")
        if head.status in CALLED_OFF:
            return
        mine = {step: row for (one, step), row in rows.items() if one == session}
        ended = sum(row.status in FINAL for row in mine.values())
        if head.open_steps != head.total_steps - ended:
            self._wrong(
                f"lost: {session} counts {head.open_steps} open steps of {head.total_steps}, {ended} have ended"
            )
        steps = self._cases[session].plan.steps
        for name, row in mine.items():
            needs = steps[name].needs
            if len(needs) > 1:
                left = sum(need not in mine or mine[need].status not in ENDED_WELL for need in needs)
                if row.needs_left != left:
                    self._wrong(f"lost: join {name} of {session} waits for {row.needs_left}, but {left} are missing")
            if row.status in ("queued", "running") and any(
                need not in mine or mine[need].status not in ENDED_WELL for need in needs
            ):
                self._wrong(f"{name} of {session} is {row.status} before its needs have ended")

    def begins(self, session: str, step: str, token: str) -> bool:
        """A body's effect; whether it is a zombie's."""
        key = (session, step)
        row = self.rows[key]
        holds = row.status == "running" and row.token == token
        if token in self._begun:
            self._wrong(f"repeated: the body of {key} begins twice under one token")
        self._begun.add(token)
        self.bodies[key] += 1
        if not holds and token not in self.fenced:
            self._wrong(f"repeated: the body of {key} begins while it is {row.status}, and nobody took it away")
        if self.bodies[key] > 1 + self.taken[key]:
            self._wrong(f"repeated: {key} began {self.bodies[key]} times, at most {1 + self.taken[key]} is right")
        return not holds

    def check_end(self, session: str, sql: Callable[[str], list[Any]], output: str | None) -> None:
        """Once nothing is left to happen to a session."""
        case, head = self._cases[session], self.heads[session]
        mine = {step: row for (one, step), row in self.rows.items() if one == session}
        if head.status == "completed":
            right = expected(case)
            for name, end in right.items():
                row = mine.get(name)
                if row is None or row.status != end.status:
                    self._wrong(f"lost: {name} of {session} is {row and row.status}, not {end.status}")
                elif (None if row.output is None else codec.decode(row.output)) != end.output:
                    self._wrong(f"{name} of {session} gave {row.output}, not {end.output!r}")
            if output is None or json.loads(output) != expected_output(case):
                self._wrong(f"the output of {session} is {output}, not {expected_output(case)!r}")
        noted = Counter(
            (one[0], one[1]) for one in sql("SELECT session_id, step FROM step_attempts") if one[0] == session
        )
        for name, row in mine.items():
            if noted[session, name] != row.attempt - 1 + (row.status == "failed"):
                self._wrong(f"{name} of {session} is at attempt {row.attempt}, {noted[session, name]} are on record")
        if sql("PRAGMA foreign_key_check"):
            self._wrong(f"orphan rows: {sql('PRAGMA foreign_key_check')}")
