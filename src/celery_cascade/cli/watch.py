"""`cascade watch`: follow a session that runs."""

from __future__ import annotations

from datetime import timedelta

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import WATCHED, Verb, id_argument, json_option, timeout_option
from celery_cascade.cli.watching import watch_to_the_end
from celery_cascade.cli.words import say
from celery_cascade.sessions.session import Session
from celery_cascade.sessions.view import summary


@click.command(cls=Verb, example=("celery -A proj cascade watch @last --timeout 10m",), exits=WATCHED)
@id_argument
@timeout_option
@json_option
def watch(session: str, timeout: timedelta | None, as_json: bool) -> None:
    """Follow a session until it has ended, then print its output.

    One line a change. Ctrl+C stops watching; the session goes on. The exit code tells how it ended.
    """
    caller = Caller.here()
    runtime = caller.runtime
    found = Session(runtime, session_id(runtime.store, session))
    told = summary(runtime.store.session(found.id), runtime.store.now())
    say(f"Session {found.id}: {told['progress']['done']} of {told['progress']['total']} steps are done.")
    watch_to_the_end(caller, found, timeout, since=told["version"])
