"""Deleting what has served its time (D9), in batches, callable by hand, by Beat and from the command line."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery_cascade import events
from celery_cascade.config import Retention
from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import UsageError
from celery_cascade.persistence.deleting import Member
from celery_cascade.persistence.prune import Pruning
from celery_cascade.persistence.prune_rules import Rules
from celery_cascade.sessions.ids import check_text, words_of
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import shown

logger = logging.getLogger("celery_cascade")

#: A worker's row is kept so long after its last heartbeat, for `show`; not much longer than the sessions themselves.
WORKERS_KEPT, _WORKERS_KEPT_AT_LEAST = timedelta(days=7), timedelta(hours=1)
#: Sessions that a dry run lists at most.
MOST_LISTED = 100_000
#: Rows of other kinds that one transaction deletes or mends at most.
_ROWS = 1000
_IDS_SHOWN = 5
_STATUSES = ("completed", "failed", "cancelled", "expired")
_RESUMABLE = frozenset({"failed", "suspended"})


@dataclass(slots=True, kw_only=True)
class PruneReport:
    """What a prune deleted, or would delete.

    Attributes:
        deleted: sessions.
        batches: transactions that this took.
        by_status: status -> sessions.
        sessions: of a dry run: session_id, cascade_id, status, seconds since the end, bytes of inputs and outputs.
        more: a dry run found more than it lists.
        definitions, workers: rows of them that nothing refers to any more.
        mended: sessions whose times could not be read; their age counts from now.
    """

    deleted: int = 0
    batches: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    more: bool = False
    definitions: int = 0
    workers: int = 0
    mended: int = 0
    dry_run: bool = False

    @property
    def session_ids(self) -> list[str]:
        """Of a dry run: what would go."""
        return [one["session_id"] for one in self.sessions]

    def count(self, gone: Iterable[Member]) -> None:
        """Add sessions to the counts."""
        for one in gone:
            self.deleted += 1
            self.by_status[str(one.status)] = self.by_status.get(str(one.status), 0) + 1


def prune(
    runtime: Runtime,
    *,
    dry_run: bool = False,
    older_than: timedelta | None = None,
    status: Collection[str] | str | None = None,
    cascade: str | None = None,
    keep_last: int | None = None,
) -> PruneReport:
    """Delete finished sessions past their retention; see `Cascades.prune`."""
    _check(older_than, keep_last)
    if not isinstance(dry_run, bool):
        raise UsageError(f"dry_run is {shown(dry_run)}; it must be True or False")
    check_text(cascade, "cascade", 255)
    retention = runtime.config.retention
    ages = _ages(retention, older_than, words_of(status, "status"))
    usual = retention or Retention()
    rules = Rules(ages=ages, keep_last=usual.keep_last if keep_last is None else keep_last, cascade=cascade)
    if dry_run:
        return _look(runtime, rules, usual.batch)
    return _prune(runtime, rules, usual.batch, asked=older_than is not None)


def cleanup_old_sessions(
    runtime: Runtime, days: float, statuses: Collection[str] | str, keep_last: int | None = None
) -> int:
    """Delete sessions that nothing has changed for `days`; see `Cascades.cleanup_old_sessions`."""
    age = days_of_age(days)
    _check(age, keep_last)
    usual = runtime.config.retention or Retention()
    rules = Rules(
        ages=dict.fromkeys(_checked((statuses,) if isinstance(statuses, str) else statuses, _RESUMABLE), age),
        since="updated_at",
        keep_last=usual.keep_last if keep_last is None else keep_last,
    )
    return _prune(runtime, rules, usual.batch, asked=True).deleted


def _prune(runtime: Runtime, rules: Rules, batch: int, *, asked: bool) -> PruneReport:
    report, store = PruneReport(), runtime.store
    if not rules.seconds:
        return report
    report.mended = _mend(runtime)
    pruning = store.pruning(rules, batch=batch)
    for trees in pruning.batches():
        if not asked and report.batches == 0 and store.first_time("first_prune"):
            _warn(rules, store.pruning(rules, batch=batch))
        report.count(pruning.delete(trees))
        report.batches += 1
        reached(CrashPoint.PRUNED)
    while (count := store.forget_definitions(_ROWS)) > 0:
        report.definitions += count
    kept = _workers_kept(runtime.config.retention).total_seconds()
    while (count := store.forget_workers(kept, _ROWS)) > 0:
        report.workers += count
    logger.info("pruned %d sessions in %d batches", report.deleted, report.batches)
    events.sessions_pruned.send(runtime.app, deleted=report.deleted)
    return report


def _look(runtime: Runtime, rules: Rules, batch: int) -> PruneReport:
    report = PruneReport(dry_run=True)
    for trees in runtime.store.pruning(rules, batch=batch).batches():
        members = [one for tree in trees for one in tree]
        report.count(members)
        ids = [one.session_id for one in members]
        sizes = runtime.store.sizes(ids)
        report.sessions += [sizes[session_id] for session_id in ids if session_id in sizes]
        if report.deleted >= MOST_LISTED:
            report.more = True
            break
    return report


def _warn(rules: Rules, pruning: Pruning) -> None:
    """Tell of the first prune of a store that deletes by the settings (D9): nobody may have asked for it."""
    count = 0
    for trees in pruning.batches():
        count += sum(map(len, trees))
        if count >= MOST_LISTED:
            break
    ages = (f"{status} {age.days} days" if age.seconds == 0 else f"{status} {age}" for status, age in _set(rules))
    logger.warning(
        "deleting %s%d finished sessions that are past cascade_retention (%s); cascade_retention = None keeps all. "
        "This is said once a store",
        "at least " if count >= MOST_LISTED else "",
        count,
        ", ".join(ages),
    )


def _mend(runtime: Runtime) -> int:
    count = 0
    while ids := runtime.store.mend_times(_ROWS):
        count += len(ids)
        logger.warning(
            "the times of %d sessions cannot be read; their age counts from now: %s%s",
            len(ids),
            ", ".join(ids[:_IDS_SHOWN]),
            ", …" if len(ids) > _IDS_SHOWN else "",
        )
    return count


def _set(rules: Rules) -> list[tuple[str, timedelta]]:
    return [(status, age) for status, age in rules.ages.items() if age is not None]


def _workers_kept(retention: Retention | None) -> timedelta:
    """By the settings, whatever was asked for: sessions that stay are shown with the names of their workers."""
    ages = [getattr(retention or Retention(), status) for status in _STATUSES]
    longest = WORKERS_KEPT if None in ages else max(ages)
    return min(WORKERS_KEPT, max(longest, _WORKERS_KEPT_AT_LEAST))


def _ages(
    retention: Retention | None, older_than: timedelta | None, status: Collection[str] | None
) -> dict[str, timedelta | None]:
    chosen = None if status is None else _checked(status)
    if older_than is not None:
        return dict.fromkeys([word for word in _STATUSES if word != "failed"] if chosen is None else chosen, older_than)
    if retention is None:
        return {}
    return {word: getattr(retention, word) for word in chosen or _STATUSES}


def _checked(statuses: Collection[str], more: Collection[str] = ()) -> Sequence[str]:
    possible = sorted({*_STATUSES, *more})
    for word in statuses:
        if word not in possible:
            raise UsageError(
                f"sessions that are {word!r} are not deleted by their age; only {', '.join(possible)}",
                hint="End one first with: cascade cancel ID" if word == "active" else "",
            )
    return list(dict.fromkeys(statuses))


def _check(age: timedelta | None, keep_last: int | None) -> None:
    if age is not None and (not isinstance(age, timedelta) or age < timedelta()):
        raise UsageError(f"older_than is {age!r}; it must be a timedelta", hint="Such as: timedelta(days=7)")
    if keep_last is not None and (isinstance(keep_last, bool) or not isinstance(keep_last, int) or keep_last < 0):
        raise UsageError(f"keep_last is {keep_last!r}; it must be a whole number, 0 or more")


def days_of_age(days: float) -> timedelta:
    """So many days. Raises UsageError: that is no number of them."""
    number = isinstance(days, (int, float)) and not isinstance(days, bool)
    if not number or not math.isfinite(days) or not 0 <= days <= _MOST_DAYS:
        raise UsageError(f"days is {days!r}; it must be a number from 0 to {_MOST_DAYS:,}")
    return timedelta(days=days)


_MOST_DAYS = 1_000_000
