"""`cascade keep`: pin sessions, so that no prune deletes them."""

from __future__ import annotations

import click

from celery_cascade.cli import completing
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import Verb, actor, json_option
from celery_cascade.cli.words import is_json, out, out_json, say
from celery_cascade.sessions.session import Session


@click.command(
    cls=Verb,
    example=(
        'celery -A proj cascade keep 3f2a91 --reason "for the audit"',
        "celery -A proj cascade keep --undo 3f2a91",
    ),
)
@click.argument("sessions", metavar="ID...", nargs=-1, required=True, shell_complete=completing.sessions)
@click.option("--undo", is_flag=True, help="Let them go again when their time has come.")
@click.option("--reason", help="Why; kept with the session.")
@json_option
def keep(sessions: tuple[str, ...], undo: bool, reason: str | None, as_json: bool) -> None:
    """Keep sessions whatever their age: neither prune nor rm deletes them, nor the tree that they belong to."""
    runtime = Caller.here().runtime
    found = [Session(runtime, one) for one in dict.fromkeys(session_id(runtime.store, text) for text in sessions)]
    for session in found:
        changed = session.keep(not undo, actor=actor(), reason=reason)
        now = "is no longer kept" if undo else "is kept"
        say(f"Session {session.id} {now}{'' if changed else ' (nothing was changed)'}.")
    if is_json(click.get_current_context()):
        out_json({"sessions": [{"session_id": session.id, "kept": not undo} for session in found]})
        return
    for session in found:
        out(session.id)
