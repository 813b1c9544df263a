"""`run FILE… --resume`: go on with a session of these files instead of starting one (D7, D8, R59-R61, R72-R78)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.edited import edited
from celery_cascade.cli.ending import say_not_repeated
from celery_cascade.cli.file_set import FileSet
from celery_cascade.cli.forked import say_forked
from celery_cascade.cli.given import inputs_of
from celery_cascade.cli.here import as_its_worker, is_here, run_here
from celery_cascade.cli.kept_options import at_the_start, check_kept
from celery_cascade.cli.living import living
from celery_cascade.cli.options import actor
from celery_cascade.cli.previous import check_durable, command, previous
from celery_cascade.cli.problems import as_called
from celery_cascade.cli.restored import after, before
from celery_cascade.cli.resume_option import Resume
from celery_cascade.cli.watching import leave, watch_to_the_end
from celery_cascade.cli.words import printable, say
from celery_cascade.definition.cascade import Source
from celery_cascade.definition.inputs import check_inputs
from celery_cascade.definition.source import read_file
from celery_cascade.errors import DefinitionError, DefinitionNotFound, InputError, SessionConflict
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions.checkpoints import checkpoints_in
from celery_cascade.sessions.hiding import hiding_of
from celery_cascade.sessions.ids import new_session_id
from celery_cascade.sessions.resuming import resume_one
from celery_cascade.sessions.session import Session
from celery_cascade.sessions.view import plain, summary
from celery_cascade.states import SessionStatus
from celery_cascade.tasks.not_repeated import not_repeated
from celery_cascade.tasks.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for.

    Args:
        files: whose session is to go on.
        resume: which one.
        pairs, inputs_file: inputs that were given as well.
        given: whatever else was said of a new session, by its name in `StartOptions`.
        use_current: go on from the file as it is now, in a fork.
        watch, local, timeout: as for a start.
    """

    files: FileSet
    resume: Resume
    pairs: tuple[str, ...] = ()
    inputs_file: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    use_current: bool = False
    watch: bool = True
    local: bool = False
    timeout: timedelta | None = None


def go_on(caller: Caller, asked: Request) -> bool:
    """Let a session go on and follow it; False = there is none that could, so a new one is to be started.

    Raises:
        SessionNotFound, SessionConflict, NotResumable, DefinitionError, StoreError, StoreUnavailable: nothing was
            changed, and nothing started.
    """
    runtime = caller.runtime
    check_durable(runtime)
    row = previous(runtime, asked.files, asked.resume)
    if row is None:
        return False
    _check_inputs(runtime, row, asked)
    anew = ["cascade", "run", asked.files.root, *_input_words(asked)]
    check_kept(row, asked.given, go_on=command(asked.files, row["session_id"]), anew=anew)
    passed_over = at_the_start(asked.given)
    if passed_over is not None:
        say(passed_over)
    now = _file_now(runtime, asked, row)
    if now is not None and now.digest != row["definition_digest"]:
        _tell_edit(runtime, row, asked, now)
        if asked.use_current:
            _fork(caller, asked, row, now)
            return True
    elif asked.use_current:
        say(f"{printable(asked.files.root)} is as it was when the session started: nothing is forked.")
    _resume(caller, asked, row)
    return True


def _check_inputs(runtime: Runtime, row: Row, asked: Request) -> None:
    """Refuse inputs that say something else than the session was started with."""
    if not asked.pairs and asked.inputs_file is None:
        return
    session_id = row["session_id"]
    given = inputs_of(runtime.plan(row["definition_digest"]).cascade, asked.pairs, asked.inputs_file)
    stored = plain(row["input_data"], f"session {session_id}: its inputs") or {}
    other = [name for name in given if name not in stored or _text(stored[name]) != _text(given[name])]
    if not other:
        return
    impossible = "" if asked.use_current else _impossible(runtime, row, {**stored, **given})
    these = "" if impossible else _with_these(asked, session_id)
    raise SessionConflict(
        f"session {session_id} was started with other inputs than these: {printable(', '.join(other))}{impossible}",
        hint=f"Go on with the inputs that it has: {command(asked.files, session_id)}\n{these}"
        f"See what it was started with: cascade show {session_id}",
    )


def _impossible(runtime: Runtime, row: Row, inputs: Mapping[str, Any]) -> str:
    """Why no session of its cascade has such inputs; empty if one might."""
    try:
        check_inputs(runtime.plan(row["definition_digest"]).cascade, inputs, runtime.secret_keys)
    except InputError as error:
        return f"; {error.message}"
    return ""


def _with_these(asked: Request, session_id: str) -> str:
    """The commands that run the cascade with the inputs that were given."""
    words = shlex.join(_input_words(asked))
    current = " --use-current-definition" if asked.use_current else ""
    return (
        f"Go on from its last checkpoint with these, in a fork: cascade fork {session_id}{current} {words}\n"
        f"Run the cascade with these: cascade run {shlex.quote(asked.files.root)} {words}\n"
    )


def _input_words(asked: Request) -> list[str]:
    words = [part for pair in asked.pairs for part in ("-i", pair)]
    return words if asked.inputs_file is None else [*words, "--inputs", asked.inputs_file]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _file_now(runtime: Runtime, asked: Request, row: Row) -> Source | None:
    """The file as it is; None if it is gone or cannot be read: the session has its definition in the store (D7)."""
    try:
        return read_file(asked.files.path, runtime.config.max_definition_bytes)
    except DefinitionError as error:
        if asked.use_current:
            raise
        gone = isinstance(error, DefinitionNotFound)
        what = f"{asked.files.root} is not there any more" if gone else error.message
        say(f"{printable(what)}. Session {row['session_id']} keeps the definition that it was started with.")
        return None


def _tell_edit(runtime: Runtime, row: Row, asked: Request, now: Source) -> None:
    stored = bytes(runtime.store.definition(row["definition_digest"])["body"])
    hide = hiding_of(runtime, row["session_id"], sources=(now,)).text
    for line in edited(row["session_id"], asked.files.root, stored, now.body, hide):
        say(line)
    if not asked.use_current:
        say("It goes on with the definition that it was started with.")
        again = command(asked.files, row["session_id"], "--use-current-definition")
        say(as_called(f"To go on from its last checkpoint with the file as it is now: {again}"))


_CURRENT = "has the file as it is now and "


def _fork(caller: Caller, asked: Request, row: Row, now: Source) -> None:
    """A session of its own that begins with what was checkpointed, and has the file as it is now."""
    runtime, origin = caller.runtime, Session(caller.runtime, row["session_id"])
    if row["status"] == SessionStatus.ACTIVE:
        raise SessionConflict(
            f"session {origin.id} is active: with a fork beside it, what is left would run twice",
            hint=f"Let it stop first: cascade suspend {origin.id}\n"
            f"or let both go on: cascade fork {origin.id} --use-current-definition",
        )
    new_id = new_session_id()
    about: dict[str, Any] = {"definition": now, "session_id": new_id, "actor": actor()}
    if is_here(runtime, asked.local):
        with as_its_worker(runtime, new_id):
            say_forked(runtime, origin, origin.fork(**about), has=_CURRENT)
            run_here(runtime, new_id, since=1)
    forked = origin.fork(**about)
    say_forked(runtime, origin, forked, has=_CURRENT)
    _follow(caller, asked, forked, since=1)


def _resume(caller: Caller, asked: Request, row: Row) -> None:
    """Attach to one that runs; set the others going from their last checkpoint."""
    runtime, session_id = caller.runtime, row["session_id"]
    found = Session(runtime, session_id)
    here = is_here(runtime, asked.local)
    if row["status"] == SessionStatus.ACTIVE:
        told: Mapping[str, Any] = summary(row, runtime.store.now())["progress"]
        say(f"Session {session_id} is active: {told['done']} of {told['total']} steps are done.")
        if not here or _runs_elsewhere(runtime, session_id):
            _follow(caller, asked, found, row["version"])
            return
    checkpoints = checkpoints_in(runtime.store.step_changes(session_id, -1))
    for line in before(session_id, checkpoints):
        say(line)
    finished, action = not_repeated(runtime, session_id), Action(action="resume", actor=actor())
    if here:
        with as_its_worker(runtime, session_id):
            resume_one(runtime, session_id, action)
            _tell(session_id, checkpoints, finished)
            run_here(runtime, session_id, since=row["version"])
    resume_one(runtime, session_id, action)
    _tell(session_id, checkpoints, finished)
    _follow(caller, asked, found, row["version"])


def _tell(session_id: str, checkpoints: Any, finished: str) -> None:
    for line in after(session_id, checkpoints):
        say(line)
    say_not_repeated(finished)


def _runs_elsewhere(runtime: Runtime, session_id: str) -> bool:
    """Whether somebody alive has a step of it in hand or queued: it need not be run here as well."""
    return session_id in runtime.store.held_by([row.id for row in living(runtime)])


def _follow(caller: Caller, asked: Request, session: Session, since: int) -> None:
    if asked.watch:
        watch_to_the_end(caller, session, asked.timeout, since)
    else:
        leave(caller, session)
