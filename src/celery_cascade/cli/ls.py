"""`cascade ls`: which sessions there are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.lacking import Lacking
from celery_cascade.cli.living import Attendance
from celery_cascade.cli.options import Verb, json_option, status_option
from celery_cascade.cli.tables import table
from celery_cascade.cli.words import is_json, local, out_json, printable, say, took
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.views import SessionFilter
from celery_cascade.sessions.view import summary

_HEADINGS = ("SESSION", "CASCADE", "NAME", "STATUS", "DONE", "PHASE", "STARTED", "TOOK")


@click.command(cls=Verb, example=("celery -A proj cascade ls --status failed --cascade order",))
@status_option("Only these: active, suspended, completed, failed, cancelled, expired; may be given several times.")
@click.option("--cascade", "cascade_id", metavar="NAME", help="Only sessions of this cascade.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@json_option
def ls(status: list[str] | None, cascade_id: str | None, limit: int, as_json: bool) -> None:
    """List sessions, newest first.

    A session that nobody runs says so: `active, no living worker for 41 s`, or `no living worker knows task shop.pay`.
    """
    runtime = Caller.here().runtime
    wanted = SessionFilter(status=status, cascade=cascade_id, limit=limit)
    rows = runtime.store.sessions(wanted)
    active = [row["session_id"] for row in rows if row["status"] == "active"]
    attendance = Attendance(runtime) if active else None
    lacking = Lacking(runtime, active)
    now = runtime.store.now()
    found = [_summary(row, attendance, lacking, now) for row in rows]
    if is_json(click.get_current_context()):
        out_json({"sessions": found, "count": len(found)})
    elif found:
        table(_HEADINGS, [_cells(one, now) for one in found])
    else:
        say("No sessions." if status is None and cascade_id is None else "No such sessions.")
    if len(found) == limit and (total := runtime.store.count(wanted)) > limit:
        say(f"{limit:,} of {total:,} sessions are shown; more with --limit.")


def _summary(row: Row, attendance: Attendance | None, lacking: Lacking, now: datetime) -> dict[str, Any]:
    found = summary(row, now)
    if attendance is not None and found["reason"] is None:
        found["reason"] = attendance.nobody(row) or lacking.of_session(row["session_id"])
    return found


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
