"""`cascade prune`: delete what has served its time."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.options import Duration, Verb, json_option, status_option
from celery_cascade.cli.words import counted, is_json, out, out_json, say
from celery_cascade.sessions.prune import PruneReport


@click.command(cls=Verb, example=("celery -A proj cascade prune --older-than 7d --dry-run",))
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--older-than", type=Duration(), metavar="TIME", help="This age (7d, 12h) instead of cascade_retention.")
@status_option("Only sessions that ended so; failed ones go by --older-than only if named here.")
@json_option
def prune(dry_run: bool, older_than: timedelta | None, status: list[str] | None, as_json: bool) -> None:
    """Delete finished sessions past their retention (7 days; failed ones 30, since they can be resumed).

    Active and suspended sessions stay, and so do the newest 20 finished ones of each cascade. Beat does the same
    by itself; look first with --dry-run.
    """
    cascades = Caller.here().cascades
    report = cascades.prune(older_than=older_than, status=status, dry_run=dry_run)
    if is_json(click.get_current_context()):
        out_json(asdict(report))
        return
    for session_id in report.session_ids:  # of a dry run
        out(session_id)
    (say if dry_run else out)(_words(report))
    if cascades.runtime.config.retention is None and older_than is None:
        say("cascade_retention is None: nothing goes by its age; --older-than would delete.")


def _words(report: PruneReport) -> str:
    parts = ", ".join(f"{count} {status}" for status, count in sorted(report.by_status.items()))
    what = counted(report.deleted, "session") + (f" ({parts})" if parts else "")
    if report.dry_run:
        return f"Would delete {what}."
    return f"Deleted {what}, {counted(report.definitions, 'definition')}, {counted(report.workers, 'worker row')}."
