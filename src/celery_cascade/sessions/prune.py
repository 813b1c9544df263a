"""Deleting what has served its time (D9), in batches, callable by hand, by Beat and from the command line."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from weakref import WeakSet

from celery_cascade import events
from celery_cascade.config import Retention
from celery_cascade.definition.words import shown
from celery_cascade.errors import UsageError
from celery_cascade.sessions.ids import words_of
from celery_cascade.tasks.runtime import Runtime

logger = logging.getLogger("celery_cascade")

#: A worker's row is kept so long after its last heartbeat, for `show`.
WORKERS_KEPT = timedelta(days=7)
#: Sessions that a dry run lists at most.
MOST_COUNTED = 100_000
_STATUSES = ("completed", "failed", "cancelled", "expired")


@dataclass(slots=True, kw_only=True)
class PruneReport:
    """What a prune deleted, or would delete."""

    deleted: int = 0
    batches: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    session_ids: list[str] = field(default_factory=list)
    definitions: int = 0
    workers: int = 0
    dry_run: bool = False


def prune(
    runtime: Runtime,
    *,
    dry_run: bool = False,
    older_than: timedelta | None = None,
    status: Collection[str] | None = None,
) -> PruneReport:
    """Delete finished sessions past their retention.

    Args:
        dry_run: only say what would go.
        older_than: replaces the ages of the settings; takes failed sessions only if `status` names them.
        status: only these final statuses; None = all that the settings or `older_than` cover.

    With `cascade_retention = None` nothing goes unless `older_than` is given.
    """
    if older_than is not None and (not isinstance(older_than, timedelta) or older_than < timedelta()):
        raise UsageError(f"older_than is {older_than!r}; it must be a timedelta", hint="Such as: timedelta(days=7)")
    status = words_of(status, "status")
    if not isinstance(dry_run, bool):
        raise UsageError(f"dry_run is {shown(dry_run)}; it must be True or False")
    report = PruneReport(dry_run=dry_run)
    retention = runtime.config.retention or Retention()
    ages = _ages(runtime.config.retention, older_than, status)
    if dry_run:
        found = runtime.store.prunable(ages, keep_last=retention.keep_last, limit=MOST_COUNTED)
        _count(report, found)
        return report
    while True:
        found = runtime.store.prunable(ages, keep_last=retention.keep_last, limit=retention.batch)
        if not found:
            break
        _warn_once(runtime, older_than)
        deleted = runtime.store.delete_sessions([session_id for session_id, _ in found])
        _count(report, found)
        report.deleted += deleted - len(found)
        report.batches += 1
        if deleted == 0:  # others delete the same; the next prune looks again
            break
    if runtime.config.retention is not None:
        report.definitions = runtime.store.forget_definitions()
        report.workers = runtime.store.forget_workers(WORKERS_KEPT.total_seconds())
    logger.info("pruned %d sessions in %d batches", report.deleted, report.batches)
    events.sessions_pruned.send(runtime.app, deleted=report.deleted)
    return report


_WARNED: WeakSet[Runtime] = WeakSet()


def _warn_once(runtime: Runtime, older_than: timedelta | None) -> None:
    """Tell of the first prune of a process that deletes by the settings (D9): nobody may have asked for it."""
    if older_than is not None or runtime in _WARNED:
        return
    _WARNED.add(runtime)
    retention = runtime.config.retention or Retention()
    ages = _ages(retention, None, None)
    count = len(runtime.store.prunable(ages, keep_last=retention.keep_last, limit=MOST_COUNTED))
    logger.warning(
        "deleting %s%d finished sessions that are past cascade_retention (%s); cascade_retention = None keeps all",
        "at least " if count >= MOST_COUNTED else "",
        count,
        ", ".join(f"{word} {age}" for word, age in ages.items()),
    )


def _ages(
    retention: Retention | None, older_than: timedelta | None, status: Collection[str] | None
) -> dict[str, timedelta | None]:
    for word in status or ():
        if word not in _STATUSES:
            raise UsageError(f"only finished sessions can be pruned; {word!r} is not one of {', '.join(_STATUSES)}")
    if older_than is not None:
        chosen = status if status is not None else [word for word in _STATUSES if word != "failed"]
        return dict.fromkeys(chosen, older_than)
    if retention is None:
        return {}
    return {word: getattr(retention, word) for word in status or _STATUSES}


def _count(report: PruneReport, found: list[tuple[str, str]]) -> None:
    for session_id, status in found:
        report.by_status[status] = report.by_status.get(status, 0) + 1
        if report.dry_run:
            report.session_ids.append(session_id)
    report.deleted += len(found)
