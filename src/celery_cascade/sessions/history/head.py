"""The head of a session at each version: its status and why, folded from what was asked, noted and ended."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from celery_cascade.persistence.doubts import ANSWERED
from celery_cascade.persistence.notes import ENGINE, Note
from celery_cascade.persistence.past import Past
from celery_cascade.persistence.rows import NO_ITEM, Row
from celery_cascade.states import FINAL_SESSION, Halt, SessionStatus, StepStatus, SuspendReason, stronger

Key = tuple[str, int]

_ASKS = {"suspend": Halt.SUSPENDED, "fail": Halt.FAILED, "cancel": Halt.CANCELLED, "expire": Halt.EXPIRED}
_ENDS = {Note.SUSPENDED, Note.FAILED, Note.CANCELLED, Note.EXPIRED, Note.COMPLETED}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadState:
    """What of a head changes without a step of its own."""

    status: str = SessionStatus.ACTIVE.value
    reason: str | None = None
    halt: str | None = None
    phase: str | None = "init"
    error: str | None = None
    output: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    pinned: int = 0

    @property
    def parked(self) -> bool:
        """Whether what is ready is not queued: the session halts, or does not run."""
        return self.halt is not None or self.status != SessionStatus.ACTIVE


@dataclass(slots=True)
class StepEvent:
    """What befell a step without an attempt of it ending then."""

    version: int
    kind: str  #: `parked`, `again` (an answer), `revived`
    reason: str | None = None
    crash: bool = True


@dataclass(slots=True)
class Heads:
    """The head over time.

    Attributes:
        events: (step, item) -> what befell it.
        revived: the versions at which the session was set going again.
    """

    versions: list[int] = field(default_factory=list)
    states: list[HeadState] = field(default_factory=list)
    events: dict[Key, list[StepEvent]] = field(default_factory=lambda: defaultdict(list))
    revived: list[int] = field(default_factory=list)

    def at(self, version: int) -> HeadState:
        """As it was at this version."""
        return self.states[bisect_right(self.versions, version) - 1]


def ended_for_good(attempt: Row, rows: Mapping[Key, Row]) -> bool:
    """Whether the step had failed with this attempt. A worker of an older version did not say so of it."""
    if attempt["ended_step"] is not None:
        return bool(attempt["ended_step"])
    row = rows.get((attempt["step"], attempt["item"]))
    return row is not None and row["status"] == StepStatus.FAILED and row["version"] == attempt["version"]


def heads_of(past: Past, phases: Mapping[str, str | None], moments: list[datetime], missing: set[int]) -> Heads:
    """Fold.

    Args:
        phases: step -> its label.
        moments, missing: see `times.moments`.
    """
    return _Fold(past, phases, moments).run(missing)


class _Fold:
    def __init__(self, past: Past, phases: Mapping[str, str | None], moments: list[datetime]) -> None:
        self.past, self.phases, self.moments = past, phases, moments
        self.rows = {(row["step"], row["item"]): row for row in past.steps}
        self.last: int = past.session["version"]
        self.heads = Heads()
        self.state = HeadState(phase=self._first_phase(), started_at=past.session["started_at"])
        if past.session["started_at"] is None and past.session["continues"] is not None:
            self.state = _behind(self.state)
        self.doubts: dict[Key, tuple[str, str | None]] = {}
        self.ended = _by_version(row for row in past.steps if row["finished_at"] is not None)
        self.failed = _by_version(row for row in past.attempts if ended_for_good(row, self.rows))
        self.lost = {(row["version"], row["step"], row["item"]): row for row in past.attempts}
        self.actions = _by_version(past.actions)
        self.quiet = max((row["version"] for row in [*past.steps, *past.attempts]), default=1)

    def _first_phase(self) -> str | None:
        checkpoints = [row for row in self.past.steps if _is_checkpoint(row)]
        if all(row["version"] == 1 for row in checkpoints):
            phase: str | None = self.past.session["current_phase"]
            return phase
        kept = [row for row in checkpoints if row["version"] == 1 and row["status"] == StepStatus.SUCCEEDED]
        return self._phase(max(kept, key=lambda row: row["finished_at"])) if kept else "init"

    def _phase(self, row: Row) -> str:
        return (self.phases.get(row["step"]) or str(row["step"]))[:50]

    def run(self, missing: set[int]) -> Heads:
        self._keep(1)
        for version in sorted({*self.ended, *self.failed, *self.actions, *missing}):
            if version <= self.last:
                self._step(version, version in missing)
                self._keep(version)
        self._agree()
        return self.heads

    def _keep(self, version: int) -> None:
        heads = self.heads
        if heads.versions and heads.versions[-1] == version:
            heads.states[-1] = self.state
        elif not heads.states or heads.states[-1] != self.state:
            heads.versions.append(version)
            heads.states.append(self.state)

    def _step(self, version: int, is_missing: bool) -> None:
        if version > 1:  # what a session begins with is no event of its own
            for row in self.ended[version]:
                if _is_checkpoint(row):
                    self.state = replace(self.state, phase=self._phase(row))
            for row in self.failed[version]:
                self._failed(row)
        for action in self.actions[version]:
            self._acted(action, version)
        called_off = self.state.halt in (Halt.CANCELLED, Halt.EXPIRED) and any(
            row["status"] == StepStatus.CANCELLED for row in self.ended[version]
        )
        if is_missing or called_off:  # an older worker's end; or a completion, which the head alone bears
            self._end(Note(self.state.halt) if self.state.halt else None, version, None)

    def _failed(self, attempt: Row) -> None:
        state = self.state
        error = state.error if state.error is not None else attempt["error"]
        self.state = replace(state, error=error)
        if state.halt in (None, Halt.SUSPENDED):
            self.state = replace(self.state, halt=Halt.FAILED.value, reason=None)

    def _acted(self, action: Row, version: int) -> None:
        word, state = action["action"], self.state
        if word in _ASKS:
            ours = word != "suspend" or action["actor"] == ENGINE
            self._ask(_ASKS[word], action["reason"] if ours else SuspendReason.OPERATOR.value)
        elif word in ("keep", "unkeep"):
            self.state = replace(state, pinned=int(word == "keep"))
        elif word in ("resume", Note.RESUMED):
            self._resume(action, version)
        elif word == Note.PARKED:
            self._park(action, version)
        elif word in _ENDS:
            self._end(Note(word), version, action)

    def _ask(self, halt: Halt, reason: str | None) -> None:
        asked = Halt(self.state.halt) if self.state.halt else None
        if stronger(halt, reason, asked, self.state.reason):
            self.state = replace(self.state, halt=halt.value, reason=reason)

    def _park(self, action: Row, version: int) -> None:
        step = _detail(action)
        key = (str(step.get("step")), int(step.get("item", NO_ITEM)))
        attempt = self.lost.get((version, *key))
        error = attempt["error"] if attempt else None
        if self.state.halt is None and error is not None:
            self.state = replace(self.state, error=error)
        self._ask(Halt.SUSPENDED, action["reason"])
        if action["reason"] in ANSWERED:
            self.doubts[key] = (action["reason"], error)
        crash = bool(step.get("crash", True))
        self.heads.events[key].append(StepEvent(version, "parked", action["reason"], crash))

    def _resume(self, action: Row, version: int) -> None:
        detail = _detail(action)
        if "answer" in detail:
            for key in [key for key in self.doubts if key[0] == detail.get("step")]:
                del self.doubts[key]
                if detail["answer"] == "again":
                    self.heads.events[key].append(StepEvent(version, "again"))
            if self.doubts:
                self._still_in_doubt()
                return
        if not self.state.parked:  # it began suspended, and this is when its turn came
            self.heads.states = [_behind(state) for state in self.heads.states]
        self.doubts.clear()
        self.heads.revived.append(version)
        self.state = replace(
            self.state, status=SessionStatus.ACTIVE.value, reason=None, halt=None, error=None, finished_at=None
        )

    def _still_in_doubt(self) -> None:
        if self.state.reason in ANSWERED:
            _, (reason, error) = min(self.doubts.items(), key=lambda one: (ANSWERED.index(one[1][0]), one[0]))
            self.state = replace(self.state, reason=reason, error=error)

    def _end(self, word: Note | None, version: int, action: Row | None) -> None:
        if word is None and (version < self.quiet or self.past.session["status"] != SessionStatus.COMPLETED):
            return
        status = SessionStatus.COMPLETED if word is None else SessionStatus(word.value)
        state = replace(self.state, status=status.value, halt=None)
        if status in FINAL_SESSION:
            state = replace(state, finished_at=action["done_at"] if action else self.moments[version])
        if status is SessionStatus.COMPLETED:
            state = replace(state, reason=None, output=self.past.session["output"], error=self.past.session["error"])
        elif status is SessionStatus.FAILED and action is not None and action["detail"] is not None:
            state = replace(state, reason=None, error=action["detail"])
        self.state = state

    def _agree(self) -> None:
        """The last state is the head's own; what nobody wrote down (a writer with a SQL client) shows there."""
        row, state = self.past.session, self.heads.states[-1]
        real = HeadState(
            status=row["status"],
            reason=row["status_reason"],
            halt=row["halt"],
            phase=row["current_phase"],
            error=row["error"],
            output=row["output"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            pinned=row["pinned"],
        )
        if replace(state, finished_at=real.finished_at) == real or self.last == 1 or len(self.heads.states) == 1:
            self.heads.states[-1] = real
        else:
            self.heads.versions.append(self.last)
            self.heads.states.append(real)


def _behind(state: HeadState) -> HeadState:
    """Of a session that waits for its turn in a thread (D12)."""
    return replace(state, status=SessionStatus.SUSPENDED.value, reason=SuspendReason.SIGNAL.value, started_at=None)


def _is_checkpoint(row: Row) -> bool:
    return row["status"] in (StepStatus.SUCCEEDED, StepStatus.SKIPPED) and row["started_at"] is not None


def _by_version(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["version"]].append(row)
    return found


def _detail(action: Row) -> dict[str, Any]:
    try:
        found = json.loads(action["detail"] or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
