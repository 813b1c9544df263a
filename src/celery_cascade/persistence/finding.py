"""Finding sessions: which ones a list shows, and the conditions that say so in SQL (docs/finding.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select

from celery_cascade.persistence.planner import asked, bare, begins, contains, led
from celery_cascade.persistence.tables import heads, sessions, steps, tags

#: Where in a list a page ends: the `listed_at` and `listed_id` of its last row. The next one begins below it. The
#: moment is as the driver gave it, so that one which is none (R119) is a place too; a moment with a zone does as well.
Place = tuple[Any, str]
#: Sessions in these states stand at a step; of the others every step has ended.
STANDING = ("active", "suspended", "failed")
#: Only these can bear an error.
WITH_ERROR = ("active", "suspended", "failed", "cancelled", "expired")
#: A reason why it is suspended.
WITH_REASON = ("suspended",)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """Which sessions a list shows, newest first. None (or nothing in it) = any.

    Args:
        status: in one of these states.
        reason: suspended for one of these reasons.
        cascade: of this cascade.
        step: standing at this step: it is queued, runs, waits, is parked or has failed.
        tags: with all of these tags.
        mode: of this mode.
        thread_id, resource_id: of this conversation, of this owner.
        parent: children of this session.
        root: of the tree of this session, itself included.
        forked_from: forks and reruns of this session.
        execution_key: of this set of files.
        prefix: whose id begins so.
        since, until: started at or after the one and before the other.
        inputs: each one a text that the inputs as stored contain, as alternatives; see `needles`.
        error: a text that the session's error contains.
        before: the list goes on below this place.
        limit: at most so many.
    """

    status: Sequence[str] | None = None
    reason: Sequence[str] | None = None
    cascade: str | None = None
    step: str | None = None
    tags: Sequence[str] = ()
    mode: str | None = None
    thread_id: str | None = None
    resource_id: str | None = None
    parent: str | None = None
    root: str | None = None
    forked_from: str | None = None
    execution_key: str | None = None
    prefix: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    inputs: Sequence[Sequence[str]] = ()
    error: str | None = None
    before: Place | None = None
    limit: int = 50

    @property
    def narrows(self) -> bool:
        """Whether it asks for anything less than all sessions."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return any(value not in (None, ()) for name, value in given.items() if name not in ("before", "limit"))

    @property
    def by_text(self) -> bool:
        """Whether rows must be read to be judged: no index knows what is in a text."""
        return bool(self.inputs) or self.error is not None

    @property
    def statuses(self) -> Sequence[str] | None:
        """The states that can be in the list: what is asked for else implies some."""
        if self.status is not None:
            return self.status
        for value, implied in ((self.step, STANDING), (self.reason, WITH_REASON), (self.error, WITH_ERROR)):
            if value is not None:
                return implied
        return None


def conditions(wanted: SessionFilter, leads: Any = None) -> list[ColumnElement[bool]]:
    """What a session must fulfil, its state, the first tag and the place in the list left aside.

    Args:
        leads: the column whose index leads to them.
    """
    found: list[ColumnElement[bool]] = []
    for column, value in _equal(wanted):
        if value is not None:
            found.append(_is(column, value, leads))
    if wanted.reason is not None:
        found.append(heads.c.status_reason.in_(list(wanted.reason)))
    if wanted.step is not None:
        found.append(_stands_at(wanted.step))
    if wanted.since is not None:
        found.append(sessions.c.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(sessions.c.created_at < wanted.until)
    if wanted.prefix is not None:
        found.append(begins(sessions.c.session_id, wanted.prefix))
    found += [or_(*(contains(sessions.c.input_data, text) for text in texts)) for texts in wanted.inputs]
    if wanted.error is not None:
        found.append(contains(heads.c.error, wanted.error))
    return found


def _is(column: Any, value: str, leads: Any) -> ColumnElement[bool]:
    if column is leads:
        return led(column == value)
    looked_at = bare(column) == value
    return asked(looked_at) if leads is heads.c.status else looked_at


def _equal(wanted: SessionFilter) -> list[tuple[Any, str | None]]:
    return [
        (sessions.c.cascade_id, wanted.cascade),
        (heads.c.mode, wanted.mode),
        (sessions.c.thread_id, wanted.thread_id),
        (sessions.c.resource_id, wanted.resource_id),
        (sessions.c.parent_session_id, wanted.parent),
        (sessions.c.root_session_id, wanted.root),
        (sessions.c.forked_from, wanted.forked_from),
        (sessions.c.execution_key, wanted.execution_key),
    ]


_other = tags.alias("other_tags")


def tagged(tag: str) -> ColumnElement[bool]:
    """Whether a session bears this tag; asked of one session at a time, by the primary key."""
    this = (_other.c.session_id == sessions.c.session_id) & (_other.c.tag == tag)
    return asked(select(_other.c.tag).where(this).correlate(sessions).exists())


def _stands_at(step: str) -> ColumnElement[bool]:
    here = steps.c.status.in_(("queued", "running", "waiting", "failed"))
    parked = (steps.c.status == "pending") & (steps.c.needs_left == 0)  # until the session goes on, or an answer comes
    this = (steps.c.session_id == sessions.c.session_id) & (steps.c.step == step)
    return asked(select(steps.c.step).where(this, or_(here, parked)).correlate(sessions).exists())
