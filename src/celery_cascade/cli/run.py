"""`cascade run`: start a cascade."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

import click

from celery_cascade.app import Cascades
from celery_cascade.cli import completing
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ending import conclude, conclude_plain, detached, say_not_repeated
from celery_cascade.cli.follow import Follower, no_worker
from celery_cascade.cli.given import inputs_of
from celery_cascade.cli.here import run_here
from celery_cascade.cli.living import lack_of, workers
from celery_cascade.cli.options import WATCHED, Verb, json_option, timeout_option
from celery_cascade.cli.words import is_json, out, out_json, say
from celery_cascade.definition.cascade import Source
from celery_cascade.definition.reader import read_cascade
from celery_cascade.errors import DefinitionError, UsageError
from celery_cascade.sessions.ids import check_session_id, new_session_id
from celery_cascade.sessions.plain import start_plain
from celery_cascade.sessions.session import Session
from celery_cascade.sessions.starting import StartOptions, read_target, start
from celery_cascade.tasks.degraded import store_usable
from celery_cascade.tasks.local_worker import local_worker
from celery_cascade.tasks.not_repeated import not_repeated
from celery_cascade.tasks.publish import driving
from celery_cascade.tasks.runtime import Runtime

_EXAMPLE = (
    "celery -A proj cascade run order.yaml -i order_id=7 -i email=ann@example.org",
    "id=$(celery -A proj cascade run order.yaml -i order_id=7 --detach)",
)


@click.command(cls=Verb, example=_EXAMPLE, exits={**WATCHED, 0: "it has completed; with --detach: it has begun"})
@click.argument("file", metavar="FILE", shell_complete=completing.cascades)
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="An input; JSON where it is some.")
@click.option("--inputs", "inputs_file", metavar="FILE", help="Inputs as a JSON object; - reads stdin.")
@click.option("--session", "session_id", metavar="ID", help="Your own id; an unfinished session of it goes on.")
@click.option("--name", help="A name to show in lists.")
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="A word of yours; may be given several times.")
@click.option("--watch/--detach", default=True, help="Follow it and print its output (default), or return at once.")
@click.option("--local", is_flag=True, help="Run it in this terminal: no worker, no broker, just as durable.")
@timeout_option
@json_option
def run(
    file: str,
    pairs: tuple[str, ...],
    inputs_file: str | None,
    session_id: str | None,
    name: str | None,
    tags: tuple[str, ...],
    watch: bool,
    local: bool,
    timeout: timedelta | None,
    as_json: bool,
) -> None:
    """Start the cascade in FILE, follow it, and print its output.

    FILE is a .yaml or .json file, or the name of a registered cascade. The session id is said first: whatever
    happens to this terminal, the session goes on, and `cascade watch ID` finds it again. Ctrl+C only stops
    watching.
    """
    if local and (not watch or timeout is not None):
        raise UsageError("--local runs here until the end: it cannot be had together with --detach or --timeout")
    caller = Caller.here()
    cascades = caller.cascades
    source = source_named(cascades, file)
    inputs = inputs_of(read_cascade(source), pairs, inputs_file)
    options = StartOptions(session_id=session_id, name=name, tags=tags, trigger="cli")
    if not store_usable(cascades.runtime):
        conclude_plain(start_plain(cascades.runtime, source, inputs, options, here=local))
    if local or cascades.app.conf.task_always_eager:
        _run_here(cascades.runtime, source, inputs, options)
    done = _done_of(cascades.runtime, session_id)
    session = cascades.start_with(source, inputs, options)
    say(f"Session {session.id}")
    say_not_repeated(done)
    if watch:
        watch_to_the_end(caller, session, timeout)
    else:
        leave(caller, session)


def _run_here(runtime: Runtime, source: Source, inputs: Mapping[str, Any], options: StartOptions) -> NoReturn:
    """`--local`. A worker from the first row on: if this process dies, others know whose the steps were."""
    given = options.session_id
    session_id = new_session_id() if given is None else check_session_id(given)
    done = _done_of(runtime, given)
    with driving(session_id), local_worker(runtime):
        start(runtime, source, inputs, replace(options, session_id=session_id))
        say(f"Session {session_id}")
        say_not_repeated(done)
        run_here(runtime, session_id)


def _done_of(runtime: Runtime, session_id: str | None) -> str:
    """What a session of this id has done already: an unfinished one goes on."""
    return "" if session_id is None else not_repeated(runtime, check_session_id(session_id))


def source_named(cascades: Cascades, file: str) -> Source:
    """The definition, read once; `cascade_definitions` is looked through only for what is no file."""
    try:
        return read_target(cascades.runtime, file)
    except DefinitionError:
        if not cascades.runtime.config.definitions or file in cascades.runtime.registered:
            raise
    cascades.register_configured()
    return read_target(cascades.runtime, file)


def leave(caller: Caller, session: Session) -> None:
    """`--detach`: the id is all there is on stdout."""
    if is_json(click.get_current_context()):
        out_json({"session": session.to_dict()})
    else:
        out(session.id)
    runtime = caller.runtime
    lack = lack_of(runtime, runtime.facts(session.id).plan, workers(runtime))
    if lack is not None:
        for line in no_worker(caller, session.id, lack):
            say(line)


def watch_to_the_end(caller: Caller, session: Session, timeout: timedelta | None, since: int = 0) -> None:
    """Follow a session that workers run, and exit as it ends."""
    follower = Follower(caller.runtime, session.id, since=since, caller=caller)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl+C: it goes on, and that is said
    try:
        status = follower.follow(None if timeout is None else timeout.total_seconds())
    except KeyboardInterrupt:
        detached(session)
    conclude(session, status)
