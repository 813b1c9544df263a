"""Which steps there were, and since when: ready to run once what they need had ended."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from celery_cascade.definition.plan import Plan
from celery_cascade.persistence.past import Past
from celery_cascade.persistence.rows import NO_ITEM, Row
from celery_cascade.states import StepStatus

_DONE = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
NEVER = datetime.max.replace(tzinfo=UTC)


def first_seen(steps: Sequence[Row], attempts: Sequence[Row]) -> list[Row]:
    """The step rows in the order in which their steps came to be ready, as far as their times tell."""
    first = first_times(steps, attempts)
    return sorted(steps, key=lambda row: (first[_key(row)], row["version"], row["step"], row["item"]))


def first_times(steps: Sequence[Row], attempts: Sequence[Row]) -> dict[tuple[str, int], datetime]:
    """(step, item) -> the earliest moment that is known of it."""
    times: dict[tuple[str, int], list[datetime | None]] = {_key(row): [] for row in steps}
    for one in attempts:
        times.setdefault(_key(one), []).append(one["started_at"])
    for row in steps:
        known = times[_key(row)]
        if row["attempt"] == 1 or not known:  # a later attempt is queued anew
            known.append(row["queued_at"])
        known += [row["started_at"], row["finished_at"]]
    return {key: min((time for time in known if time is not None), default=NEVER) for key, known in times.items()}


def _key(row: Row) -> tuple[str, int]:
    return row["step"], row["item"]


class Readiness:
    """When each step was ready for the first time.

    Args:
        plan: None = the definition is not there, and times alone tell.
    """

    def __init__(self, past: Past, plan: Plan | None, moments: Sequence[datetime]) -> None:
        self._plan, self._moments = plan, moments
        self._first = first_times(past.steps, past.attempts)
        self._rows: Mapping[str, Row] = {row["step"]: row for row in past.steps if row["item"] == NO_ITEM}

    def of(self, row: Row) -> int | None:
        """The version; None = it is not ready yet."""
        if self._plan is not None and row["step"] in self._plan.steps:
            ends = [self._end(need) for need in self._plan.steps[row["step"]].needs]
            if None not in ends:
                return max((end for end in ends if end is not None), default=1)
            if row["status"] in (StepStatus.PENDING, StepStatus.CANCELLED):
                return None
        first = self._first[_key(row)]
        if first is NEVER:
            return int(row["version"])
        return max(1, bisect_right(self._moments, first) - 1)

    def _end(self, need: str) -> int | None:
        row = self._rows.get(need)
        return row["version"] if row is not None and row["status"] in _DONE else None
