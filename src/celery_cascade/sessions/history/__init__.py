"""What a session was at each of its versions, out of its rows alone (R23). Pure: rows in, plain data out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from celery_cascade import deltas
from celery_cascade.definition.plan import Plan
from celery_cascade.errors import UsageError
from celery_cascade.persistence.notes import Note
from celery_cascade.persistence.past import Past
from celery_cascade.persistence.rows import NO_ITEM, Row
from celery_cascade.sessions import view
from celery_cascade.sessions.history.head import Key, ended_for_good, heads_of
from celery_cascade.sessions.history.ready import Readiness, first_seen
from celery_cascade.sessions.history.steps import StepPast
from celery_cascade.sessions.history.times import moments
from celery_cascade.sessions.history.words import Teller
from celery_cascade.states import FINAL_STEP, SessionStatus, StepStatus

_NOTES = frozenset(word.value for word in Note)
_CALLED_OFF = (SessionStatus.CANCELLED, SessionStatus.EXPIRED)


class History:
    """A session over all its versions.

    Args:
        past: its rows, read once; what has changed since is not told.
        plan: of its definition; None = there is none that could be read, and only steps with a row are told of.
        now: by the store's clock, for the newest version.
        remarks: what is to be said of the definition, as further keys of each state.
    """

    def __init__(self, past: Past, plan: Plan | None, now: datetime, remarks: Mapping[str, Any] | None = None) -> None:
        self._past, self._plan, self._now = past, plan, now
        self.remarks = dict(remarks or {})
        self.session_id: str = past.session["session_id"]
        self.latest: int = past.session["version"]  #: the newest version
        self.moments, missing = moments(past)
        phases = {} if plan is None else {step.id: step.phase for step in plan.steps.values()}
        self._heads = heads_of(past, phases, self.moments, missing)
        self._steps = self._steps_of()

    def _steps_of(self) -> list[StepPast]:
        past, plan = self._past, self._plan
        rows: Mapping[Key, Row] = {(row["step"], row["item"]): row for row in past.steps}
        attempts: dict[Key, list[Row]] = defaultdict(list)
        for one in sorted(past.attempts, key=lambda one: (one["version"], one["attempt"])):
            if one["version"] <= self.latest:
                attempts[one["step"], one["item"]].append(one)
        ready = Readiness(past, plan, self.moments)
        return [
            StepPast(
                row,
                attempts.get((row["step"], row["item"]), ()),
                self._heads.events.get((row["step"], row["item"]), ()),
                self._heads.revived,
                ended=lambda one: ended_for_good(one, rows),
                moments=self.moments,
                ready=ready.of(row),
            )
            for row in (past.steps if plan is not None else first_seen(past.steps, past.attempts))
        ]

    def at(self, version: int) -> dict[str, Any]:
        """The session as it was when it had come to this version, in the shape of `Session.to_dict()`.

        Besides: `at`, the moment of the version; `context` and `conversation_history` as of then; and
        `attempts`, those that had not succeeded.

        Raises:
            UsageError: there is no such version; names the ones there are.
            StoreError: a stored value cannot be read.
        """
        moment = self.moments[self._checked(version)]
        then = None if version == self.latest else moment
        head = self._heads.at(version)
        found = [step.at(version, then, parked=head.parked) for step in self._steps]
        rows = [row for row in found if row is not None]
        actions = [row for row in self._past.actions if row["version"] <= version and row["action"] not in _NOTES]
        attempts = [
            row
            for row in self._past.attempts
            if row["version"] < version or (row["version"] == version and (then is None or row["finished_at"] <= then))
        ]
        whole = view.whole(self._head(version, rows), rows, self._plan, then or self._now, actions, attempts)
        return whole | {
            **self.remarks,
            "at": view.iso(moment),
            "context": self.context(version),
            "conversation_history": self.conversation(version),
            "attempts": [view.attempt(row) for row in attempts],
        }

    def _checked(self, version: int) -> int:
        if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= self.latest:
            raise UsageError(
                f"session {self.session_id} has no version {version!r}: it has the versions 1 to {self.latest}",
                hint=f"See them with: cascade replay {self.session_id}",
            )
        return version

    def _head(self, version: int, rows: list[Row]) -> dict[str, Any]:
        """The session's row as it was."""
        head, row = self._heads.at(version), dict(self._past.session)
        if row["total_steps"]:
            open_steps = row["total_steps"] - sum(one["status"] in FINAL_STEP for one in rows)
            row["open_steps"] = 0 if head.status in _CALLED_OFF else open_steps
            row["current_step"] = sum(one["status"] == StepStatus.SUCCEEDED for one in rows if one["item"] == NO_ITEM)
        return row | {
            "version": version,
            "status": head.status,
            "status_reason": head.reason,
            "halt": head.halt,
            "current_phase": head.phase,
            "error": head.error,
            "output": head.output,
            "started_at": head.started_at,
            "finished_at": head.finished_at,
            "pinned": head.pinned,
            "updated_at": self.moments[version] if version < self.latest else row["updated_at"],
        }

    def context(self, version: int) -> Any:
        """The context as it was at a version, as JSON."""
        return deltas.context_at(self._past.changes, version)

    def conversation(self, version: int) -> list[dict[str, Any]]:
        """What was said up to a version, and in the turns before, as JSON."""
        moment = None if version == self.latest else self.moments[version]

        def said(row: Row) -> bool:
            if row["session_id"] == self.session_id:
                return bool(row["version"] <= version)
            return moment is None or row["created_at"] <= moment  # an earlier turn may go on while this one waits

        return [view.message(row) for row in self._past.conversation if said(row)]

    def timeline(self) -> list[dict[str, Any]]:
        """A line a version: `{"version": 3, "at": …, "what": "step charge succeeded (attempt 2, 1.3 s)"}`."""
        told = Teller(self._past, self._heads).lines(self.latest)
        return [
            {"version": version, "at": view.iso(self.moments[version]), "what": "; ".join(told[version]) or "changed"}
            for version in range(1, self.latest + 1)
        ]
