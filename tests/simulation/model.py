"""A model of the store: it carries out what the engine decides as the SQL does, and no more.

Rows that are inserted when they are needed, `needs_left` counters, `open_steps`, one gate a row, a halt. Each method is
one transaction. What must always hold is asserted where it happens, so that a history stops at its first wrong move.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_cascade.engine.advance import output_reads, prepare, reads, session_output
from celery_cascade.engine.decision import Call, Decision, Facts, Fail, Queue, Skip
from celery_cascade.states import Halt, SessionStatus, StepStatus
from simulation.cases import INPUTS, REPAIRED, Case, End

ENDED_WELL = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
RESEND_AFTER = 60.0
LONGEST_RESEND = 3600.0


class Lost(Exception):
    """The token is not the step's any more: a late writer is refused."""


@dataclass(slots=True)
class Row:
    status: StepStatus
    needs_left: int = 0
    call: Call | None = None
    output: Any = None
    reason: str | None = None
    token: int | None = None
    worker: str | None = None
    attempt: int = 1
    failures: int = 0
    crashes: int = 0
    sends: int = 0
    wake_at: float | None = None


class Loaded(Mapping[str, Any]):
    """Outputs as a store loads them: what was announced and no more."""

    def __init__(self, rows: Mapping[str, Row], announced: frozenset[str]) -> None:
        self._rows = rows
        self._announced = announced

    def __getitem__(self, key: str) -> Any:
        assert key in self._announced, f"{key} was not announced by reads() or reads_after()"
        row = self._rows[key]
        assert row.status in ENDED_WELL, f"{key} is read while it is {row.status}"
        return row.output

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all outputs were asked for")

    def __len__(self) -> int:
        raise AssertionError("all outputs were counted")


@dataclass
class Store:
    """One session's rows and its head."""

    case: Case
    rows: dict[str, Row] = field(default_factory=dict)
    open_steps: int = 0
    version: int = 0
    status: SessionStatus | None = None  #: None = not started
    halt: Halt | None = None
    reason: str | None = None
    repaired: bool = False
    now: float = 0.0
    tokens: dict[int, tuple[str, int]] = field(default_factory=dict)  #: every claim ever given
    checkpoints: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)  #: attempts that ended without a checkpoint
    fenced: set[int] = field(default_factory=set)  #: tokens that recovery took: their holders are late writers now

    # -- a session's way
    def facts(self, announced: frozenset[str]) -> Facts:
        inputs = INPUTS | (REPAIRED if self.repaired else {})
        return Facts(session_id="s-1", inputs=inputs, outputs=Loaded(self.rows, announced))

    def start(self, decision: Decision) -> list[str]:
        """Names whose messages are to be sent; none if it is there already."""
        if self.status is not None:
            return []
        plan = self.case.plan
        self.status = SessionStatus.ACTIVE
        self.open_steps = len(plan.steps)
        for join in plan.joins:
            self._insert(join, Row(StepStatus.PENDING, needs_left=len(plan.steps[join].needs)))
        return self._apply(decision)

    def claim(self, name: str, attempt: int, token: int, worker: str | None) -> bool:
        row = self.rows[name]
        mine = row.status is StepStatus.RUNNING and row.token == token
        if not mine:
            if row.status is not StepStatus.QUEUED or row.attempt != attempt:
                return False  # a double, or late
            assert name not in self.checkpoints, f"repeated: {name} is claimed after its checkpoint"
            assert row.sends, f"{name} is claimed before its moment"
            assert self.status is SessionStatus.ACTIVE, f"{name} is claimed in a session that is {self.status}"
            self._may_run(name)
        row.status, row.token, row.worker, row.wake_at = StepStatus.RUNNING, token, worker, None
        self.tokens[token] = (name, attempt)
        return True

    def prepared(self, name: str) -> Queue | Skip | Fail:
        """What a claimed step without a call comes to."""
        plan = self.case.plan
        skipped = [need for need in plan.steps[name].needs if self.rows[need].status is StepStatus.SKIPPED]
        found = prepare(plan, name, self.facts(reads(plan, name)), skipped)
        assert found.step == name
        return found

    def checkpoint(
        self, name: str, token: int, decision: Decision, *, output: Any, reason: str | None = None
    ) -> list[str]:
        """Names whose messages are to be sent."""
        row = self.rows[name]
        status = StepStatus.SUCCEEDED if reason is None else StepStatus.SKIPPED
        if row.token == token and row.status is status:  # done before, the answer was lost
            names = [*(one.step for one in decision.queue), *(one.step for one in decision.fail), *decision.arrive]
            return [one for one in names if self.rows[one].status is StepStatus.QUEUED]
        self._gate(name, token)
        assert name not in self.checkpoints, f"repeated: {name} is checkpointed twice"
        self.checkpoints[name] += 1
        row.status, row.output, row.reason = status, output, reason
        self.open_steps -= 1
        return self._apply(decision)

    def setback(self, name: str, token: int, *, delay: float | None, failures: int) -> bool:
        """An attempt that did not succeed; whether its next message is to be sent at once."""
        row = self.rows[name]
        if token not in self.tokens or row.token != token or row.status is not StepStatus.RUNNING:
            raise Lost(name)
        self.version += 1
        self.taken[name] += 1
        row.failures += failures
        if delay is None:
            row.status = StepStatus.FAILED
            self.open_steps -= 1
            self._park_queued()
            if self.halt in (None, Halt.SUSPENDED):
                self.halt = Halt.FAILED
            return False
        return self._again(row, delay)

    def _again(self, row: Row, delay: float) -> bool:
        row.attempt += 1
        row.sends = 0
        if self.halt is not None:
            row.status, row.wake_at = StepStatus.PENDING, None
            return False
        row.status = StepStatus.QUEUED
        row.sends = int(not delay)
        row.wake_at = self.now + (delay or RESEND_AFTER)
        return not delay

    # -- recovery
    def release(self, name: str, token: int, *, delay: float) -> bool:
        """Queue a dead worker's step again; the caller has asked under the row's lock whether it is dead."""
        row = self.rows[name]
        if row.status is not StepStatus.RUNNING or row.token != token or self.halt is not None:
            return False
        self._fence(name, token)
        self._again(row, delay)
        return True

    def park(self, name: str, token: int, *, poisoned: bool) -> bool:
        """Take a dead worker's step without queueing it."""
        row = self.rows[name]
        if (not poisoned and self.halt is None) or row.status is not StepStatus.RUNNING or row.token != token:
            return False
        self.version += 1
        self._fence(name, token)
        row.attempt += 1
        row.status, row.wake_at = StepStatus.PENDING, None
        if poisoned:
            self._park_queued()
            if self.halt is None:
                self.halt, self.reason = Halt.SUSPENDED, "poisoned"
        return True

    def _fence(self, name: str, token: int) -> None:
        self.rows[name].crashes += 1
        self.taken[name] += 1
        self.fenced.add(token)

    def take_due(self) -> list[tuple[str, int]]:
        found = []
        for name, row in self.rows.items():
            if row.status is StepStatus.QUEUED and row.wake_at is not None and row.wake_at <= self.now:
                row.wake_at = self.now + min(RESEND_AFTER * 2.0**row.sends, LONGEST_RESEND)
                row.sends += 1
                found.append((name, row.attempt))
        return found

    def wake_later(self, name: str, delay: float) -> None:
        if self.rows[name].status is StepStatus.QUEUED:
            self.rows[name].wake_at = self.now + delay

    # -- the head
    def ask_to_halt(self, halt: Halt) -> None:
        ends = halt is Halt.CANCELLED
        over = (SessionStatus.COMPLETED, SessionStatus.CANCELLED)
        if self.status is None or self.status in over or (self.status is not SessionStatus.ACTIVE and not ends):
            return
        if self.halt is None or halt.rank > self.halt.rank:
            self.halt, self.reason = halt, None
        self._park_queued()

    def settle(self) -> SessionStatus | None:
        """Its end, if nothing of it is left to run."""
        if self.halt in (None, Halt.SUSPENDED) and self.open_steps == 0 and self.status is SessionStatus.ACTIVE:
            self.status, self.halt, self.reason = SessionStatus.COMPLETED, None, None
            self.version += 1
            return self.status
        if self.halt is None:
            return None
        self._park_queued()
        if any(row.status is StepStatus.RUNNING for row in self.rows.values()):
            return None
        self.status = SessionStatus(self.halt.value)
        if self.halt is Halt.CANCELLED:
            for row in self.rows.values():
                if not row.status.final:
                    row.status, row.wake_at = StepStatus.CANCELLED, None
            self.open_steps = 0
        self.halt = None
        self.version += 1
        return self.status

    def revive(self) -> list[tuple[str, int]]:
        """Of a suspended or failed session: what failed and what was parked is queued again."""
        halting = self.status is SessionStatus.ACTIVE and self.halt not in (None, Halt.CANCELLED)
        if self.halt is Halt.CANCELLED or not (
            halting or self.status in (SessionStatus.SUSPENDED, SessionStatus.FAILED)
        ):
            return []
        self.status, self.halt, self.reason = SessionStatus.ACTIVE, None, None
        self.version += 1
        for row in self.rows.values():
            if row.status is StepStatus.FAILED:
                self.open_steps += 1
                row.attempt += 1
                row.failures = 0
                self._queue(row)
            elif row.status is StepStatus.PENDING and row.needs_left == 0:
                self._queue(row)
        return [(name, row.attempt) for name, row in self.rows.items() if row.status is StepStatus.QUEUED]

    # -- what transactions are made of
    def _gate(self, name: str, token: int) -> None:
        row = self.rows[name]
        if row.status is not StepStatus.RUNNING or row.token != token:
            raise Lost(name)

    def _may_run(self, name: str) -> None:
        for need in self.case.plan.steps[name].needs:
            status = self.rows[need].status
            assert status in ENDED_WELL, f"{name} runs while {need} is {status}"

    def _apply(self, decision: Decision) -> list[str]:
        self.version += 1
        self.open_steps -= len(decision.skip)
        fresh = []
        for failed in decision.fail:  # a row without a call: it fails at its own claim
            fresh.append(self._insert(failed.step, Row(StepStatus.PENDING)))
        for skipped in decision.skip:
            self._insert(skipped.step, Row(StepStatus.SKIPPED, reason=skipped.reason))
        for ready in decision.queue:
            fresh.append(self._insert(ready.step, Row(StepStatus.PENDING, call=ready.call)))
        for join, count in decision.arrive.items():
            row = self.rows[join]
            assert row.status is StepStatus.PENDING, f"an arrival at {join}, which is {row.status}"
            row.needs_left -= count
            assert row.needs_left >= 0, f"{join} heard more arrivals than it has needs"
            if row.needs_left == 0:
                fresh.append(join)
        assert self.open_steps >= 0, "more steps have ended than there are"
        for name in fresh:
            if self.halt is None:  # else it is parked, as `pending`
                self._queue(self.rows[name])
        return fresh if self.halt is None else []

    def _insert(self, name: str, row: Row) -> str:
        assert name not in self.rows, f"{name} was decided twice"
        self.rows[name] = row
        return name

    def _queue(self, row: Row) -> None:
        row.status, row.sends, row.crashes = StepStatus.QUEUED, 1, 0
        row.wake_at = self.now + RESEND_AFTER

    def _park_queued(self) -> None:
        for row in self.rows.values():
            if row.status is StepStatus.QUEUED:
                row.status, row.wake_at, row.sends = StepStatus.PENDING, None, 0

    # -- looking
    def ends(self) -> dict[str, End]:
        return {name: End(row.status, row.reason, row.output) for name, row in self.rows.items() if row.status.final}

    def output(self) -> Any:
        return session_output(self.case.plan, self.facts(output_reads(self.case.plan)))
