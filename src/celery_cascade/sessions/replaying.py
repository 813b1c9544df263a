"""What a session was: its past, and what it was started with, whether or not that is stored or can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_cascade.definition.cascade import Source
from celery_cascade.definition.document import parse
from celery_cascade.definition.plan import Plan
from celery_cascade.errors import DefinitionError, SessionNotFound
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions.hiding import hiding_of
from celery_cascade.sessions.history import History
from celery_cascade.sessions.history.ready import first_seen
from celery_cascade.sessions.view import UNKNOWN, iso, plain
from celery_cascade.tasks.runtime import Runtime

STORED, RECONSTRUCTED = "cascade_sessions_table", "reconstructed_from_logs"
WARNING = (
    "The definition of this session is not stored. Its steps are put together from what is recorded of them: "
    "configurations and inputs are not available. Sessions have them once the migration has been run and they are "
    "started with this version."
)


def plan_and_remarks(runtime: Runtime, row: Row) -> tuple[Plan | None, dict[str, Any]]:
    """The plan of a session, and what is to be said if there is none: further keys of its data (R18, R20).

    Raises:
        StoreError: its definition is lost, or is not what it was.
    """
    if row["definition_digest"] is None:
        marks = {"_reconstructed": True, "_session_id": row["session_id"], "source": RECONSTRUCTED}
        return None, marks | {"warning": WARNING}
    try:
        return runtime.plan(row["definition_digest"]), {}
    except DefinitionError as error:
        return None, {"warning": error.message}


def read_history(runtime: Runtime, session_id: str, *, redact: bool = True) -> History:
    """A session at all its versions. Raises SessionNotFound: it is not there, or nothing is known of it (R19)."""
    past = runtime.store.past(session_id)
    if past.session["definition_digest"] is None and not past.steps:
        raise no_data(session_id)
    plan, remarks = plan_and_remarks(runtime, past.session)
    hide = hiding_of(runtime, session_id).view if redact else None
    return History(past, plan, runtime.store.now(), remarks, hide)


def no_data(session_id: str) -> SessionNotFound:
    """The error for a session of which there is neither a definition nor a step."""
    return SessionNotFound(f"No data found for session {session_id}")


def stored_cascade(runtime: Runtime, session_id: str) -> dict[str, Any]:
    """See `Session.stored_cascade`."""
    try:
        row = runtime.store.session(session_id)
    except SessionNotFound:
        raise no_data(session_id) from None
    told = {
        "input_data": plain(row["input_data"], f"session {session_id}: its inputs") or {},
        "cascade_id": row["cascade_id"],
        "created_at": iso(row["created_at"]),
        "config_path": row["config_path"],
    }
    if row["definition_digest"] is None:
        steps = runtime.store.steps(session_id)
        if not steps:
            raise no_data(session_id)
        found = first_seen(steps, runtime.store.attempts(session_id))
        _, marks = plan_and_remarks(runtime, row)
        return {"cascade": _reconstructed(row["cascade_id"], found), **told, "definition": None, **marks}
    stored = runtime.store.definition(row["definition_digest"])
    source = Source(body=bytes(stored["body"]), format=stored["format"], path=row["config_path"])
    _, remarks = plan_and_remarks(runtime, row)
    text = source.body.decode("utf-8", "replace")
    error = {"error": remarks["warning"]} if remarks else {}
    return {"cascade": _parsed(source), **told, "source": STORED, "definition": text, **error}


def _parsed(source: Source) -> Any:
    try:
        return parse(source).root.plain()
    except DefinitionError:
        return None


def _reconstructed(cascade_id: str | None, found: Sequence[Row]) -> dict[str, Any]:
    """The shape of a definition: names in first-seen order, and the tasks as far as they are recorded."""
    tasks: dict[str, str] = {}
    for row in found:
        tasks.setdefault(row["step"], row["task"] or UNKNOWN)
    return {
        "cascade": cascade_id or UNKNOWN,
        "steps": [{"id": step, "task": task, "inputs": {}} for step, task in tasks.items()],
    }
