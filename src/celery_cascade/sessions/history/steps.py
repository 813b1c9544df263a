"""One step at each version of its session: which attempt, what had become of the ones before, whether one ran."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from celery_cascade.persistence.doubts import ANSWERED
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions.history.head import StepEvent
from celery_cascade.states import FINAL_STEP, StepStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What was so from one version on, until the next mark or the end in the step's row.

    Attributes:
        at: set if that came in the midst of its version: a step that is taken from a dead worker makes none.
        attempt: the one that is next, or runs; of a step that has failed the one that it failed with.
        last: the attempt that ended last.
        status: `failed`, or `pending` for one that waits for an answer; None = it goes its way.
    """

    version: int = 1
    at: datetime | None = None
    attempt: int = 1
    crashes: int = 0
    last: Row | None = None
    status: str | None = None
    reason: str | None = None


class StepPast:
    """One step over time.

    Args:
        row: as it is now.
        attempts: its own that did not succeed, oldest first.
        events: what else befell it.
        revived: the versions at which its session was set going again.
        ended: whether an attempt's row says that the step had failed with it.
        moments: of each version.
        ready: the version at which it was ready to run for the first time; None = it is not yet.
    """

    def __init__(
        self,
        row: Row,
        attempts: Sequence[Row],
        events: Sequence[StepEvent],
        revived: Sequence[int],
        *,
        ended: Callable[[Row], bool],
        moments: Sequence[datetime],
        ready: int | None,
    ) -> None:
        self.row, self.ready = row, ready
        self._moments = moments
        self._starts: dict[int, Row] = {one["attempt"]: one for one in attempts}
        self._marks = [Mark()]
        if attempts:
            self._marks += self._later(attempts, events, revived, ended)
        self._versions = [mark.version for mark in self._marks]

    def at(self, version: int, moment: datetime | None, *, parked: bool) -> Row | None:
        """The row as it was; None as long as there was none.

        Args:
            moment: of the version; None = now.
            parked: whether the session halts or does not run.
        """
        if self.row["status"] in FINAL_STEP and self.row["version"] <= version:
            return self.row
        if self.ready is None or self.ready > version:
            return None
        mark = self._mark(version, moment)
        shown = self._shown(mark)
        if mark.status is not None:
            return shown
        start = self._start(mark.attempt)
        if start is not None and (moment is None or start["started_at"] <= moment):
            ran = {"started_at": start["started_at"], "nodename": start["nodename"]}
            return {**shown, **ran, "status": StepStatus.RUNNING.value}
        if parked:
            return {**shown, "status": StepStatus.PENDING.value}
        same = self.row["status"] == StepStatus.QUEUED and self.row["attempt"] == mark.attempt
        reason = self.row["reason"] if same and moment is None else None
        return {**shown, "status": StepStatus.QUEUED.value, "reason": reason}

    def _mark(self, version: int, moment: datetime | None) -> Mark:
        number = bisect_right(self._versions, version) - 1
        found = self._marks[number]
        while found.version == version and found.at is not None and moment is not None and found.at > moment:
            number -= 1
            found = self._marks[number]
        return found

    def _shown(self, mark: Mark) -> dict[str, Any]:
        last = mark.last
        failed = mark.status == StepStatus.FAILED
        return {
            "step": self.row["step"],
            "item": self.row["item"],
            "status": mark.status,
            "reason": mark.reason,
            "task": self.row["task"],
            "attempt": mark.attempt,
            "crashes": mark.crashes,
            "nodename": last["nodename"] if last else None,
            "started_at": last["started_at"] if last else None,
            "finished_at": last["finished_at"] if last and failed else None,
            "output": None,
            "error": last["error"] if last and mark.status is not None else None,
            "version": mark.version,
        }

    def _start(self, attempt: int) -> Row | None:
        """Who has begun an attempt, and when; None = nobody has."""
        noted = self._starts.get(attempt)
        if noted is not None:
            return noted if noted["started_at"] is not None else None
        row = self.row
        began = row["status"] in (StepStatus.RUNNING, StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED)
        return row if began and row["attempt"] == attempt and row["started_at"] is not None else None

    # -- making the marks
    def _later(
        self,
        attempts: Sequence[Row],
        events: Sequence[StepEvent],
        revived: Sequence[int],
        ended: Callable[[Row], bool],
    ) -> list[Mark]:
        # An attempt that bears the version of an answer or of a resume was taken from a dead worker after that.
        found: list[tuple[int, int, Any]] = [(one["version"], 2, one) for one in attempts]
        found += [(event.version, 3 if event.kind == "parked" else 0, event) for event in events]
        found += [(version, 1, StepEvent(version, "revived")) for version in revived]
        mark, marks = self._marks[0], []
        for version, _, what in sorted(found, key=lambda one: (one[0], one[1])):
            after = self._befallen(mark, what) if isinstance(what, StepEvent) else _ended(mark, what, ended(what))
            if after != mark:
                mark = replace(after, version=version)
                marks.append(mark)
        return marks

    def _befallen(self, mark: Mark, event: StepEvent) -> Mark:
        match event.kind:
            case "parked":
                crashes = mark.crashes - int(not event.crash)
                if event.reason not in ANSWERED:
                    return replace(mark, crashes=crashes)
                return replace(mark, crashes=crashes, status=StepStatus.PENDING.value, reason=event.reason)
            case "again":
                return replace(mark, crashes=0, status=None, reason=None)
            case _:
                return self._revived(mark, self._moments[event.version])

    def _revived(self, mark: Mark, moment: datetime) -> Mark:
        if mark.status == StepStatus.FAILED:
            return replace(mark, attempt=mark.attempt + 1, crashes=0, status=None, reason=None, at=None)
        start = self._start(mark.attempt)
        if mark.status is None and start is not None and start["started_at"] <= moment:
            return mark  # it runs, and goes on
        return replace(mark, crashes=0, status=None, reason=None, at=None)


def _ended(mark: Mark, attempt: Row, for_good: bool) -> Mark:
    crashes = mark.crashes + int(attempt["kind"] == "crash")
    if for_good:
        return replace(
            mark, at=None, attempt=attempt["attempt"], crashes=crashes, last=attempt, status=StepStatus.FAILED.value
        )
    at: datetime = attempt["finished_at"]
    return replace(mark, at=at, attempt=attempt["attempt"] + 1, crashes=crashes, last=attempt, status=None)
