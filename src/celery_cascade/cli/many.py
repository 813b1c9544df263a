"""Verbs that act on many sessions: which are meant, whether somebody agrees, how far it is, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import click

from celery_cascade.cli import completing
from celery_cascade.cli.between import BetweenSessions
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.exits import DONE, INTERRUPTED
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import F, actor
from celery_cascade.cli.progress import Progress
from celery_cascade.cli.words import complain, counted, is_json, out, out_json, printable, say
from celery_cascade.errors import SessionConflict, UsageError
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.sessions.acts import Operation
from celery_cascade.sessions.bulk import BulkReport, narrowed, operation_named, walk
from celery_cascade.tasks.runtime import Runtime

#: Refused sessions that are named on the terminal; --json has them all.
_SHOWN = 20


def ids_argument(function: F) -> F:
    """The sessions that a verb is about."""
    return click.argument("sessions", metavar="[ID...]", nargs=-1, shell_complete=completing.sessions)(function)


def many_options(function: F) -> F:
    """`--dry-run` and `--yes`."""
    dry_run = click.option("--dry-run", is_flag=True, help="Only list the sessions that it would be done to.")
    yes = click.option("-y", "--yes", is_flag=True, help="Do not ask, although several sessions are meant.")
    return dry_run(yes(function))


def meant(sessions: Sequence[str], wanted: SessionFilter) -> list[str] | SessionFilter:
    """Which sessions a command line means: whole ids, or its filter.

    Raises:
        UsageError: it gives both, or neither.
        SessionNotFound, SessionConflict: an id is none, or that of several.
    """
    filtered = wanted.narrows
    if filtered == bool(sessions):
        what = "ids or filters, not both" if filtered else "ids, or filters such as --status failed"
        raise UsageError(f"say which sessions: {what}", hint="See which there are: cascade ls")
    store = Caller.here().runtime.store
    return wanted if filtered else list(dict.fromkeys(session_id(store, text) for text in sessions))


def act_on_many(
    action: str,
    which: list[str] | SessionFilter,
    *,
    reason: str | None = None,
    yes: bool,
    dry_run: bool,
    afterwards: Callable[[Sequence[str]], None] = lambda _: None,
) -> NoReturn:
    """Do it to all of them, say what came of it, and exit: 0 if it was done to all, 4 if some were refused.

    What else is to be said of those that it was done to, `afterwards` says.
    """
    runtime = Caller.here().runtime
    operation = operation_named(action)
    by_status: dict[str, int] = {}
    if not isinstance(which, list):
        which = narrowed(operation, which)
        by_status = _counts(runtime, which)
    total = len(which) if isinstance(which, list) else sum(by_status.values())
    if not total:
        _tell(operation, BulkReport(action=action, dry_run=dry_run))
        raise click.exceptions.Exit(DONE)
    if not dry_run and not yes:
        _confirm(operation, total, by_status)
    report = BulkReport(action=action, dry_run=dry_run)
    progress = Progress(total, operation.past)
    try:
        with BetweenSessions() as between:
            for one in walk(runtime, operation, which, reason=reason, actor=actor(), dry_run=dry_run):
                report.add(one)
                progress.tick(len(report.done) + len(report.refused))
                if _left(report, total):
                    between.check()
    except KeyboardInterrupt:
        progress.end()
        _interrupted(operation, report, total)
    except BaseException:
        progress.end()
        complain(_summary(operation, report))  # what is done is done, whatever the matter is
        raise
    progress.end()
    _tell(operation, report)
    if not dry_run:
        afterwards(report.done)
    raise click.exceptions.Exit(SessionConflict.exit_code if report.refused else DONE)


def _counts(runtime: Runtime, wanted: SessionFilter) -> dict[str, int]:
    """Status -> how many the filter finds."""
    found = {status: runtime.store.count(replace(wanted, status=[status])) for status in wanted.status or ()}
    return {status: count for status, count in found.items() if count}


def _confirm(operation: Operation, total: int, by_status: dict[str, int]) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"{counted(total, 'session')} would be {operation.past}, and nobody is there to confirm it",
            hint="Look first with --dry-run, or say it on the command line: --yes",
        )
    question = f"{operation.name.capitalize()} {counted(total, 'session')}{_parts(by_status)}?"
    if not click.confirm(question, err=True):
        raise UsageError(f"nothing was {operation.past}", hint="See which they are with --dry-run")


def _parts(by_status: dict[str, int]) -> str:
    parts = [f"{count:,} {status}" for status, count in by_status.items()]
    return f" ({', '.join(parts)})" if parts else ""


def _summary(operation: Operation, report: BulkReport) -> str:
    """`Cancelled 9,998 sessions (9,998 active); 2 refused.`"""
    word = f"Would {operation.name}" if report.dry_run else operation.past.capitalize()
    refused = f"; {len(report.refused):,} refused" if report.refused else ""
    return f"{word} {counted(len(report.done), 'session')}{_parts(report.by_status)}{refused}."


def _tell(operation: Operation, report: BulkReport, **more: Any) -> None:
    if is_json(click.get_current_context()):
        out_json({**report.to_dict(), **more})
    else:
        for one in report.done:
            out(one)
    _name_refused(report, say if is_json(click.get_current_context()) else complain)
    say(_summary(operation, report) if report.done or report.refused else "No such sessions.")


def _name_refused(report: BulkReport, tell: Callable[[str], None]) -> None:
    for number, reason in enumerate(report.refused.values()):
        if number == _SHOWN:
            tell(f"… and {len(report.refused) - _SHOWN:,} more were refused; --json names them all")
            return
        tell(f"Refused: {printable(reason, lines=True)}")


def _interrupted(operation: Operation, report: BulkReport, total: int) -> NoReturn:
    _tell(operation, report, interrupted=True)
    complain(f"Interrupted: {_left(report, total):,} of {total:,} are left. The same command does the rest.")
    raise click.exceptions.Exit(INTERRUPTED)


def _left(report: BulkReport, total: int) -> int:
    return max(0, total - len(report.done) - len(report.refused))


def only_for_one(**options: Any) -> None:
    """Refuse options that need one session. Raises UsageError."""
    for name, value in options.items():
        if value:
            raise UsageError(
                f"--{name.replace('_', '-')} is about one session", hint="Give the id of one; see them with: cascade ls"
            )
