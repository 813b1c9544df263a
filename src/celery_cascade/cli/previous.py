"""Which session `run FILE… --resume` is about (R59, R60, R65, R74, R75, R77)."""

from __future__ import annotations

import os
import shlex

from celery_cascade.cli.file_set import FileSet
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.problems import as_called
from celery_cascade.cli.resume_option import Resume
from celery_cascade.cli.words import local, painted, printable, say
from celery_cascade.errors import (
    NotResumable,
    SchemaOutOfDate,
    SessionConflict,
    SessionNotFound,
    StoreError,
    StoreUnavailable,
)
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.views import SessionFilter
from celery_cascade.sessions.execution_key import execution_key
from celery_cascade.sessions.registry import last_of
from celery_cascade.states import SessionStatus
from celery_cascade.tasks.runtime import Runtime

_ENDED = frozenset({SessionStatus.COMPLETED, SessionStatus.CANCELLED, SessionStatus.EXPIRED})
_OPEN = [status.value for status in SessionStatus if status not in _ENDED]


def check_durable(runtime: Runtime) -> None:
    """Refuse to go on from a store that is not there; a plain run would do again what was done (R78).

    Raises:
        StoreUnavailable, SchemaOutOfDate
    """
    if runtime.config.store_required:
        return  # the look for the session says it
    hint = "Until then nothing is kept. With this setting a run without its store is refused:\n"
    hint += "    app.conf.cascade_store_required = True"
    try:
        runtime.store.probe()
    except (SchemaOutOfDate, StoreUnavailable) as error:
        what: type[StoreUnavailable] | type[StoreError] = type(error)
        raise what(
            f"Resume requested but durability not enabled: {error.message}", hint=f"{error.hint}\n{hint}"
        ) from error


def previous(runtime: Runtime, files: FileSet, resume: Resume) -> Row | None:
    """The session that is to go on, whole; None = none can, and a new one is to be started.

    Raises:
        SessionNotFound, SessionConflict, NotResumable: the one that was named is none, of other files, or has ended.
    """
    if resume.session is not None:
        return _named(runtime, files, resume.session)
    row = last_of(runtime, files.paths)
    if row is None:
        say(f"No previous session found for these files: {printable(', '.join(files.paths))}")
        return None
    if _over(runtime, row):
        say(f"No previous session found for these files that can go on; the last one, {row['session_id']}, has ended.")
        if not all(os.path.exists(path) for path in files.paths):
            say(as_called(f"What it ran is stored; run that once more: cascade rerun {row['session_id']}"))
        _tell_older(runtime, files)
        return None
    say(f"Found previous session: {row['session_id']}")
    return runtime.store.session(row["session_id"])


def _over(runtime: Runtime, row: Row) -> bool:
    expires = row["expires_at"]
    return row["status"] in _ENDED or (expires is not None and expires <= runtime.store.now())


def _tell_older(runtime: Runtime, files: FileSet) -> None:
    """One that was left behind is not taken up unasked, but it is named."""
    wanted = SessionFilter(execution_key=execution_key(files.paths), status=_OPEN, limit=1)
    for row in runtime.store.sessions(wanted):
        when = f"of {local(row['created_at'])}, which is {painted(row['status'])}"
        say(as_called(f"An older one {when}, goes on with: {command(files, row['session_id'])}"))


def _named(runtime: Runtime, files: FileSet, word: str) -> Row:
    try:
        row = runtime.store.session(session_id(runtime.store, word))
    except SessionNotFound as error:
        raise SessionNotFound(f"Session ID not found: {error.message}", hint=error.hint) from error
    _check_files(row, files)
    if _over(runtime, row):
        what = f"is {row['status']}" if row["status"] in _ENDED else f"expired at {local(row['expires_at'])}"
        raise NotResumable(
            f"session {row['session_id']} {what}; there is nothing to resume",
            hint=f"Look: cascade show {row['session_id']}\n"
            f"Run it again, with the same definition and inputs: cascade rerun {row['session_id']}",
        )
    say(f"Resuming explicit session: {row['session_id']}")
    return row


def _check_files(row: Row, files: FileSet) -> None:
    """Refuse a session of other files (R77)."""
    if row["execution_key"] == execution_key(files.paths):
        return
    its = row["config_path"]
    of = f"{its} (cascade {row['cascade_id']})" if its else f"cascade {row['cascade_id']}, a definition in Python"
    again = f"cascade run {shlex.quote(its)} --resume {row['session_id']}" if its else None
    raise SessionConflict(
        f"session {row['session_id']} belongs to {of}, not to {', '.join(files.paths)}",
        hint=f"Go on with it: {again or 'cascade resume ' + row['session_id']}",
    )


def command(files: FileSet, session: str | None = None, *more: str) -> str:
    """The command line that goes on with a session of these files."""
    chosen = ["--resume"] if session is None else ["--resume", session]
    return shlex.join(["cascade", "run", files.root, *chosen, *more])
