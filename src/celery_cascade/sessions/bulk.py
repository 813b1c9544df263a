"""One action on many sessions: named by their ids, or found by a filter, page by page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from celery_cascade.errors import CascadeError, SessionNotFound, StoreUnavailable, UsageError
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.listing import place_of
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions.acts import OPERATIONS, Operation
from celery_cascade.sessions.ids import look_up_id
from celery_cascade.sessions.resuming import check_action
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import suggestion

#: Sessions that are read at once, and the seconds after which they are read again: somebody may resume meanwhile what
#: failed, and then a cancel of what failed does not mean it.
PAGE = 200
FRESH = 0.5
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one session.

    Args:
        session_id: which.
        status: where it stood before; None = it was gone.
        done: the sessions that were acted on: itself; with `delete` its descendants, too. Empty = refused.
        refused: why, in words.
    """

    session_id: str
    status: str | None
    done: Sequence[str] = ()
    refused: str | None = None


@dataclass(slots=True, kw_only=True)
class BulkReport:
    """What a bulk action did, or would do.

    Args:
        action: cancel, suspend, resume or delete.
        dry_run: nothing was done.
        done: the ids that were acted on, the newest first.
        refused: id -> why.
        by_status: where those acted on stood before -> how many.
    """

    action: str
    dry_run: bool = False
    done: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    by_status: dict[str, int] = field(default_factory=dict)

    def add(self, one: Outcome) -> None:
        """Count an outcome."""
        if one.refused is not None:
            self.refused[one.session_id] = one.refused
            return
        self.done += one.done
        if one.done and one.status is not None:
            self.by_status[one.status] = self.by_status.get(one.status, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def operation_named(action: str) -> Operation:
    """What the word stands for. Raises UsageError with the words there are."""
    if not isinstance(action, str) or action not in OPERATIONS:
        near = suggestion(str(action), OPERATIONS)
        raise UsageError(f"{action!r} cannot be done to many sessions{near}", hint=f"One of: {', '.join(OPERATIONS)}")
    return OPERATIONS[action]


def narrowed(operation: Operation, wanted: SessionFilter) -> SessionFilter:
    """The filter with the statuses that the action is usually meant for, if it names none."""
    return wanted if wanted.status is not None else replace(wanted, status=list(operation.usual))


def bulk(
    runtime: Runtime,
    action: str,
    which: Sequence[str] | SessionFilter,
    *,
    reason: str | None = None,
    actor: str | None = None,
    dry_run: bool = False,
) -> BulkReport:
    """Do it to all of them; what cannot be done to one does not stop the others."""
    report = BulkReport(action=action, dry_run=dry_run)
    for one in walk(runtime, operation_named(action), which, reason=reason, actor=actor, dry_run=dry_run):
        report.add(one)
    return report


def walk(
    runtime: Runtime,
    operation: Operation,
    which: Sequence[str] | SessionFilter,
    *,
    reason: str | None,
    actor: str | None,
    dry_run: bool = False,
    clock: Clock = time.monotonic,
) -> Iterator[Outcome]:
    """Act on one session after another, and tell of each.

    What begins while this runs is left alone, and so is what has changed by then so that the filter does not find it
    any more. Killed in the middle and called again it does the rest.

    Args:
        which: whole ids, or a filter (its limit is left aside).
        clock: seconds, for tests.

    Raises:
        StoreUnavailable: the database is away; what was told is done.
    """
    asked = Action(action=operation.name, actor=actor, reason=reason)
    check_action(asked)
    wanted = narrowed(operation, which) if isinstance(which, SessionFilter) else None
    rows = _found(runtime, wanted, clock) if wanted else _named(runtime, which)  # type: ignore[arg-type]
    act = operation.could if dry_run else operation.does
    later: list[Row] = []
    for row in rows:
        if isinstance(row, Outcome):
            yield row
        elif operation.whole_trees and row["root_session_id"] not in (None, row["session_id"]):
            later.append(row)  # it goes with its root, if that goes
        else:
            yield _one(runtime, act, row, asked)
    for row in later:
        if runtime.store.brief(row["session_id"]) is not None:
            yield _one(runtime, act, row, asked)


def _one(runtime: Runtime, act: Callable[[Runtime, Row, Action], Sequence[str]], row: Row, asked: Action) -> Outcome:
    session_id, status = row["session_id"], row["status"]
    try:
        return Outcome(session_id=session_id, status=status, done=act(runtime, row, asked))
    except StoreUnavailable:
        raise
    except SessionNotFound:
        return Outcome(session_id=session_id, status=None, refused=f"session {session_id} is gone meanwhile")
    except CascadeError as error:
        return Outcome(session_id=session_id, status=status, refused=error.message)


def _found(runtime: Runtime, wanted: SessionFilter, clock: Clock) -> Iterator[Row]:
    """Every session that the filter finds, and none that it did not find just now: it may have moved on since."""
    wanted = replace(wanted, limit=PAGE)
    while rows := runtime.store.sessions(wanted):
        stale_at = clock() + FRESH
        for row in rows:
            yield row
            wanted = replace(wanted, before=place_of(row))
            if clock() >= stale_at:
                break


def _named(runtime: Runtime, ids: Iterable[str]) -> Iterator[Row | Outcome]:
    for session_id in dict.fromkeys(look_up_id(runtime.store, one) for one in ids):
        row = runtime.store.brief(session_id)
        if row is None:
            yield Outcome(session_id=session_id, status=None, refused=f"there is no session {session_id}")
        else:
            yield row
