"""`cascade prune`: delete what has served its time."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.options import Duration, Verb, json_option, status_option
from celery_cascade.cli.tables import table
from celery_cascade.cli.words import counted, is_json, out, out_json, printable, say, size, took
from celery_cascade.errors import UsageError
from celery_cascade.sessions.prune import PruneReport
from celery_cascade.tasks.runtime import Runtime

_HEADINGS = ("SESSION", "CASCADE", "STATUS", "ENDED", "SIZE")


@click.command(
    cls=Verb,
    example=(
        "celery -A proj cascade prune --dry-run",
        "celery -A proj cascade prune --older-than 1d --cascade order --keep-last 5",
        "celery -A proj cascade prune --older-than 90d --status failed",
    ),
)
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@click.option("--older-than", type=Duration(), metavar="TIME", help="This age (7d, 12h) instead of cascade_retention.")
@status_option("Only sessions that ended so; failed ones go by --older-than only if named here.")
@click.option("--cascade", "cascade_id", metavar="NAME", help="Only sessions of this cascade.")
@click.option("--keep-last", type=click.IntRange(0), metavar="N", help="Leave so many of each cascade, instead of 20.")
@click.option("--vacuum", is_flag=True, help="SQLite: also give the room in the file back to the disk.")
@json_option
def prune(
    dry_run: bool,
    older_than: timedelta | None,
    status: list[str] | None,
    cascade_id: str | None,
    keep_last: int | None,
    vacuum: bool,
    as_json: bool,
) -> None:
    """Delete finished sessions past their retention (7 days; failed ones 30, since they can be resumed).

    Active and suspended sessions stay, and so do those that `keep` pins, those whose thread was used within the
    time, and the newest 20 finished ones of each cascade. Beat does the same by itself; look first with --dry-run.
    """
    caller = Caller.here()
    runtime = caller.runtime
    if vacuum:
        _check_vacuum(runtime, dry_run)
    report = caller.cascades.prune(
        older_than=older_than, status=status, cascade=cascade_id, keep_last=keep_last, dry_run=dry_run
    )
    shrunk = runtime.store.vacuum() if vacuum else None
    if is_json(click.get_current_context()):
        out_json(asdict(report) | ({"vacuum": {"before": shrunk[0], "after": shrunk[1]}} if shrunk else {}))
        return
    if report.sessions:
        table(_HEADINGS, [_cells(one) for one in report.sessions])
    (say if dry_run else out)(_words(report))
    if report.mended:
        say(f"The times of {counted(report.mended, 'session')} cannot be read; their age counts from now.")
    if shrunk:
        say(f"The file of the store took {size(shrunk[0])} and takes {size(shrunk[1])} now.")
    if runtime.config.retention is None and older_than is None:
        say("cascade_retention is None: nothing goes by its age; --older-than would delete.")


def _check_vacuum(runtime: Runtime, dry_run: bool) -> None:
    if dry_run:
        raise UsageError("--dry-run changes nothing, and --vacuum writes the file anew", hint="Give one of them")
    if runtime.store.database.family != "sqlite":
        raise UsageError("--vacuum is for SQLite; database servers use the room of deleted rows again by themselves")


def _cells(one: dict[str, Any]) -> list[str]:
    ended = "?" if one["seconds"] is None else f"{took(one['seconds'])} ago"
    return [one["session_id"], printable(one["cascade_id"] or "-"), one["status"], ended, size(one["bytes"])]


def _words(report: PruneReport) -> str:
    parts = ", ".join(f"{count} {status}" for status, count in sorted(report.by_status.items()))
    what = counted(report.deleted, "session") + (f" ({parts})" if parts else "")
    if report.dry_run:
        room = f" with {size(sum(one['bytes'] for one in report.sessions))} of data" if report.sessions else ""
        return f"Would delete {'at least ' if report.more else ''}{what}{room}."
    return f"Deleted {what}, {counted(report.definitions, 'definition')}, {counted(report.workers, 'worker row')}."
