"""`cascade rerun`: a session once more, with the same definition and inputs."""

from __future__ import annotations

from datetime import timedelta

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.here import as_its_worker, check_here, is_here, run_here
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import BEGUN, Verb, actor, id_argument, json_option, local_option, timeout_option
from celery_cascade.cli.watching import leave, watch_to_the_end
from celery_cascade.cli.words import say
from celery_cascade.sessions.ids import id_or_new
from celery_cascade.sessions.session import Session


@click.command(
    cls=Verb,
    example=("celery -A proj cascade rerun @last-failed", "celery -A proj cascade rerun 3f2a91 --session again-1"),
    exits=BEGUN,
)
@id_argument
@click.option("--session", "new_id", metavar="ID", help="The id of the new session; else a random one.")
@click.option("--reason", help="Why; kept with the new session.")
@click.option("--watch/--detach", default=True, help="Follow it and print its output (default), or return at once.")
@local_option
@timeout_option
@json_option
def rerun(
    session: str,
    new_id: str | None,
    reason: str | None,
    watch: bool,
    local: bool,
    timeout: timedelta | None,
    as_json: bool,
) -> None:
    """Run a session once more: the same definition and inputs, byte for byte, under a new id.

    What is stored counts: its file may have changed, or be gone. Every step runs again; to keep some, use fork. The
    session itself stays as it is.
    """
    check_here(local, watch, timeout)
    caller = Caller.here()
    runtime = caller.runtime
    origin = Session(runtime, session_id(runtime.store, session))
    new_id = id_or_new(new_id)
    if is_here(runtime, local):
        with as_its_worker(runtime, new_id):
            origin.rerun(session_id=new_id, actor=actor(), reason=reason)
            say(f"Session {new_id}")
            run_here(runtime, new_id)
    made = origin.rerun(session_id=new_id, actor=actor(), reason=reason)
    say(f"Session {made.id}")
    if watch:
        watch_to_the_end(caller, made, timeout)
    else:
        leave(caller, made)
