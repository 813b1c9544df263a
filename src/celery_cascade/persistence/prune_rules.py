"""What may go (D9), as conditions of statements. Times are compared in SQL alone: a broken one is never read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import and_, case, false, literal, or_, select
from sqlalchemy.sql.elements import ColumnElement

from celery_cascade.persistence.clock import after
from celery_cascade.persistence.tables import heads, mappings, sessions

#: A moment before this one, or this many seconds ahead of the present, is no moment of ours: it is broken (R119).
EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
LATEST = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which sessions one prune may take.

    Args:
        ages: status -> age at which such a session may go; None or missing = it stays.
        since: what the age counts from. A suspended session has not finished: its age counts from `updated_at`.
        keep_last: the newest finished sessions of each cascade stay whatever their age, in the order of lists.
        cascade: only trees whose root is a session of this cascade.
    """

    ages: Mapping[str, timedelta | None]
    since: Literal["finished_at", "updated_at"] = "finished_at"
    keep_last: int = 20
    cascade: str | None = None
    seconds: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        seconds = {status: -age.total_seconds() for status, age in self.ages.items() if age is not None}
        object.__setattr__(self, "seconds", seconds)

    @property
    def parameters(self) -> dict[str, float]:
        """The values of the statements' parameters."""
        return {f"b_age_{status}": seconds for status, seconds in self.seconds.items()}

    def due(self, statuses: tuple[str, ...]) -> ColumnElement[bool]:
        """Whether this one head is of these statuses, past its age, and not pinned."""
        found: list[ColumnElement[bool]] = []
        for status in statuses:
            moment = heads.c.updated_at if status == "suspended" else heads.c[self.since]
            found.append(and_(heads.c.status == literal(status), moment < after(f"b_age_{status}")))
        return and_(or_(false(), *found), heads.c.pinned == 0)

    def goes(self) -> ColumnElement[int]:
        """Whether nothing about this one session keeps it, as 1 or 0; 0 also where there is no head."""
        statuses = tuple(self.seconds)
        return case((and_(self.due(statuses), ~self._thread_in_use(statuses)), 1), else_=0)

    def _thread_in_use(self, statuses: tuple[str, ...]) -> ColumnElement[bool]:
        period = case(*((heads.c.status == literal(status), after(f"b_age_{status}")) for status in statuses))
        used = and_(mappings.c.updated_at > period, mappings.c.updated_at < after(literal(LATEST)))
        # The thread points at its newest session; those before it are the conversation that this one continues.
        same = and_(mappings.c.thread_id == sessions.c.thread_id, mappings.c.resource_id == sessions.c.resource_id)
        here = mappings.c.session_id == heads.c.session_id
        return or_(*(select(mappings.c.session_id).where(which, used).exists() for which in (here, same)))


def broken(moment: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a moment is none: zero dates, infinity, and on SQLite text and numbers, all sort out of the range."""
    return or_(moment > after(literal(LATEST)), moment < EARLIEST)


ROOT: ColumnElement[Any] = case(
    (sessions.c.root_session_id.is_(None), sessions.c.session_id), else_=sessions.c.root_session_id
)
#: Joined to a session by its `root_session_id`.
ROOTS = sessions.alias("roots")
#: Whether a tree is to be found at this session: it is the root, or the root's row is gone.
IS_ROOT: ColumnElement[bool] = or_(ROOTS.c.session_id.is_(None), ROOTS.c.session_id == sessions.c.session_id)
