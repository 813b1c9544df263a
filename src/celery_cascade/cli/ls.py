"""`cascade ls`: which sessions there are."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.filters import filter_options
from celery_cascade.cli.lacking import Lacking
from celery_cascade.cli.living import nobody
from celery_cascade.cli.options import Verb, json_option
from celery_cascade.cli.tables import table
from celery_cascade.cli.words import is_json, local, out_json, printable, say, took
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.sessions.cursor import place_in
from celery_cascade.sessions.page import Page
from celery_cascade.tasks.runtime import Runtime

_HEADINGS = ("SESSION", "CASCADE", "NAME", "STATUS", "DONE", "PHASE", "STARTED", "TOOK")
#: Beside them where conversations are asked for: elsewhere few sessions have any.
_CONVERSATION = {"THREAD": "thread_id", "RESOURCE": "resource_id"}


@click.command(
    cls=Verb,
    example=(
        "celery -A proj cascade ls --status failed --cascade order",
        "celery -A proj cascade ls --since 2h --input order_id=7",
        "celery -A proj cascade ls --step charge --tag nightly --json",
    ),
)
@filter_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="CURSOR", help="The next page: what the page before gave.")
@json_option
def ls(wanted: SessionFilter, limit: int, cursor: str | None, as_json: bool) -> None:
    """List sessions, newest first. Everything that is asked for must hold.

    A session that nobody runs says so: `active, no living worker for 41 s`, or `no living worker knows task shop.pay`.
    With --thread or --resource the list says the thread and the resource of each; --json always does.
    PHASE is that of the step that ended last. --input and --error read what the other options leave, from the newest
    on: --since or --cascade make that less.
    """
    runtime = Caller.here().runtime
    wanted = replace(wanted, limit=limit, before=None if cursor is None else place_in(wanted, cursor))
    page = Page(runtime, wanted)
    found = _with_reasons(runtime, page)
    if is_json(click.get_current_context()):
        out_json(page.to_dict() | {"sessions": found})
    elif found:
        now = runtime.store.now()
        more = _CONVERSATION if wanted.thread_id or wanted.resource_id else {}
        rows = [_cells(one, now) + [printable(one[key] or "-") for key in more.values()] for one in found]
        table((*_HEADINGS, *more), rows)
    else:
        say("No such sessions." if wanted.narrows or cursor else "No sessions.")
    if page.next_cursor:
        say(f"{_shown(page)} The next page: --cursor {page.next_cursor}")


def _shown(page: Page) -> str:
    if page.total_exact:
        return f"{len(page):,} of {page.total_sessions:,} sessions are shown."
    return f"{len(page):,} of more than {page.total_sessions:,} sessions are shown."


def _with_reasons(runtime: Runtime, page: Page) -> list[dict[str, Any]]:
    """The summaries, with why an active session stands still."""
    lacking = Lacking(runtime, [row["session_id"] for row in page.rows if row["status"] == "active"])
    for found, row in zip(page.summaries, page.rows, strict=True):
        if page.attendance is not None and found["reason"] is None:
            found["reason"] = nobody(page.attendance, row) or lacking.of_session(row["session_id"])
    return page.summaries


def _cells(one: dict[str, Any], now: datetime) -> list[str]:
    status = ", ".join(word for word in (one["status"], one["reason"], _expiry(one, now)) if word)
    ended = one["finished_at"]
    began = one["started_at"] or one["created_at"]
    until = datetime.fromisoformat(ended) if ended else now
    progress = one["progress"]
    return [
        one["session_id"],
        printable(one["cascade_id"] or "-"),
        printable(one["name"] or "-"),
        printable(status),
        f"{progress['done']}/{progress['total']}",
        printable(one["current_phase"] or "-"),
        local(began),
        took((until - datetime.fromisoformat(began)).total_seconds()) if began else "-",
    ]


def _expiry(one: dict[str, Any], now: datetime) -> str | None:
    if one["finished_at"] or not one["expires_at"]:
        return None
    left = (datetime.fromisoformat(one["expires_at"]) - now).total_seconds()
    return f"expires in {took(left)}" if left > 0 else "expiring"
