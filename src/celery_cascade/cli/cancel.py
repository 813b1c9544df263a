"""`cascade cancel`: end a session."""

from __future__ import annotations

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import Verb, actor, id_argument, json_option
from celery_cascade.cli.words import is_json, out, out_json, say
from celery_cascade.sessions.session import Session
from celery_cascade.states import SessionStatus


@click.command(cls=Verb, example=('celery -A proj cascade cancel 3f2a91 --reason "wrong order"',))
@id_argument
@click.option("--reason", help="Why; kept with the session and shown.")
@json_option
def cancel(session: str, reason: str | None, as_json: bool) -> None:
    """End a session: nothing new is started, a step that runs still ends and is checkpointed.

    A cancelled session cannot be resumed. One that has ended already is a conflict (exit 4).
    """
    runtime = Caller.here().runtime
    found = Session(runtime, session_id(runtime.store, session))
    status = found.cancel(reason, actor=actor())
    if status is SessionStatus.CANCELLED:
        say(f"Session {found.id} is cancelled.")
    else:
        say(f"Session {found.id} is being cancelled: the step that runs ends first.")
    if is_json(click.get_current_context()):
        out_json({"session": found.to_dict()})
    else:
        out(found.id)
