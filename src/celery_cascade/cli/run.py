"""`cascade run`: start a cascade."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

import click

from celery_cascade.app import Cascades
from celery_cascade.cli import completing
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ending import conclude_plain, say_not_repeated
from celery_cascade.cli.file_set import file_set, only_file, source_named
from celery_cascade.cli.given import inputs_of
from celery_cascade.cli.going_on import Request, go_on
from celery_cascade.cli.here import as_its_worker, check_here, is_here, run_here
from celery_cascade.cli.options import BEGUN, json_option, local_option, timeout_option
from celery_cascade.cli.resume_option import OPTION, Resume, RunVerb
from celery_cascade.cli.starting_options import starting_options
from celery_cascade.cli.watching import leave, watch_to_the_end
from celery_cascade.cli.words import say
from celery_cascade.definition.cascade import Source
from celery_cascade.definition.reader import read_cascade
from celery_cascade.errors import UsageError
from celery_cascade.sessions.ids import check_session_id, id_or_new
from celery_cascade.sessions.plain import start_plain
from celery_cascade.sessions.starting import StartOptions, start
from celery_cascade.tasks.degraded import store_usable
from celery_cascade.tasks.not_repeated import not_repeated
from celery_cascade.tasks.runtime import Runtime

_EXAMPLE = (
    "celery -A proj cascade run order.yaml -i order_id=7 -i email=ann@example.org",
    "id=$(celery -A proj cascade run order.yaml -i order_id=7 --detach)",
    "celery -A proj cascade run order.yaml -i order_id=7 --resume",
    "celery -A proj cascade run chat.yaml -i message=hello --thread support-7 --resource ann",
)


@click.command(cls=RunVerb, example=_EXAMPLE, exits=BEGUN)
@click.argument("files", metavar="FILE...", nargs=-1, shell_complete=completing.cascades)
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="An input; JSON where it is some.")
@click.option("--inputs", "inputs_file", metavar="FILE", help="Inputs as a JSON object; - reads stdin.")
@click.option(
    OPTION,
    metavar="[SESSION_ID]",
    help="Go on with the last session of these files, or with this one, from its last checkpoint.",
    shell_complete=completing.sessions,
)
@click.option(
    "--use-current-definition",
    is_flag=True,
    help="With --resume: if the file was edited, go on in a fork that has it as it is now.",
)
@click.option("--session", "session_id", metavar="ID", help="Your own id; an unfinished session of it goes on.")
@click.option("--name", help="A name to show in lists.")
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="A word of yours; may be given several times.")
@starting_options
@click.option("--watch/--detach", default=True, help="Follow it and print its output (default), or return at once.")
@local_option
@timeout_option
@json_option
def run(
    files: tuple[str, ...],
    pairs: tuple[str, ...],
    inputs_file: str | None,
    resume: Resume | None,
    use_current_definition: bool,
    session_id: str | None,
    name: str | None,
    tags: tuple[str, ...],
    watch: bool,
    local: bool,
    timeout: timedelta | None,
    as_json: bool,
    more: dict[str, Any],
) -> None:
    """Start the cascade in FILE, follow it, and print its output.

    FILE is a .yaml or .json file, or the name of a registered cascade. The session id is said first: whatever
    happens to this terminal, the session goes on, and `cascade watch ID` finds it again. Ctrl+C only stops
    watching.

    With --resume the last session of FILE goes on instead, under its own id, with the definition and inputs that it
    was started with; if it runs, it is watched. An option that says something else than it was started with is
    refused. If there is none that could go on, a new one is started. A word after --resume that is a file, or ends in
    .yaml, .yml or .json, is a FILE; --resume=ID always is an id.
    """
    check_here(local, watch, timeout)
    _check_options(resume, use_current_definition, session_id)
    caller = Caller.here()
    cascades = caller.cascades
    files, resume = _files(cascades, files, resume)
    chosen = file_set(cascades, files)
    if resume is not None and go_on(
        caller,
        Request(
            files=chosen,
            resume=resume,
            pairs=pairs,
            inputs_file=inputs_file,
            given=_given(name, tags, more),
            use_current=use_current_definition,
            watch=watch,
            local=local,
            timeout=timeout,
        ),
    ):
        return
    source = source_named(cascades, chosen.root)
    inputs = inputs_of(read_cascade(source), pairs, inputs_file)
    options = StartOptions(session_id=session_id, name=name, tags=tags, trigger="cli", files=chosen.paths, **more)
    if not store_usable(cascades.runtime):
        conclude_plain(start_plain(cascades.runtime, source, inputs, options, here=local))
    if is_here(cascades.runtime, local):
        _run_here(cascades.runtime, source, inputs, options)
    done = _done_of(cascades.runtime, session_id)
    session = cascades.start_with(source, inputs, options)
    say(f"Session {session.id}")
    say_not_repeated(done)
    if watch:
        watch_to_the_end(caller, session, timeout)
    else:
        leave(caller, session)


def _given(name: str | None, tags: tuple[str, ...], more: Mapping[str, Any]) -> dict[str, Any]:
    """What was said of the session, by its name in `StartOptions`."""
    return ({} if name is None else {"name": name}) | ({"tags": tags} if tags else {}) | dict(more)


def _check_options(resume: Resume | None, use_current: bool, session_id: str | None) -> None:
    if resume is None and use_current:
        raise UsageError(
            "--use-current-definition is about a session that goes on", hint="Such as: cascade run order.yaml "
            "--resume --use-current-definition",
        )  # fmt: skip
    if resume is not None and session_id is not None:
        raise UsageError(
            "--session names a session to start, --resume one that is there: give one of them",
            hint="The session of that id goes on with --resume ID",
        )


def _files(cascades: Cascades, files: tuple[str, ...], resume: Resume | None) -> tuple[tuple[str, ...], Resume | None]:
    """The FILEs; what stands after `--resume` is one if there is no other."""
    if files:
        return files, resume
    file = only_file(cascades, resume)
    if file is not None:
        return (file,), Resume()
    raise UsageError("Missing argument 'FILE...': there is nothing to run", hint=_instead(cascades, resume))


def _instead(cascades: Cascades, resume: Resume | None) -> str:
    word = None if resume is None else resume.session
    if not word:
        return ""
    if only_file(cascades, Resume(word)) is not None:
        file = shlex.quote(word)
        return f"After --resume= stands an id. The last session of a file goes on with: cascade run {file} --resume"
    return f"To go on with a session by its id: cascade resume {shlex.quote(word)} --watch"


def _run_here(runtime: Runtime, source: Source, inputs: Mapping[str, Any], options: StartOptions) -> NoReturn:
    given = options.session_id
    session_id = id_or_new(given)
    done = _done_of(runtime, given)
    with as_its_worker(runtime, session_id):
        start(runtime, source, inputs, replace(options, session_id=session_id))
        say(f"Session {session_id}")
        say_not_repeated(done)
        run_here(runtime, session_id)


def _done_of(runtime: Runtime, session_id: str | None) -> str:
    """What a session of this id has done already: an unfinished one goes on."""
    return "" if session_id is None else not_repeated(runtime, check_session_id(session_id))
