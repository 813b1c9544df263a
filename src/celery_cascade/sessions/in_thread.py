"""A start in a thread: what it may ask for, and what its thread made of it (D12)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from celery_cascade.errors import CascadeError, SessionNotFound, UsageError
from celery_cascade.sessions.ids import DEFAULT_RESOURCE
from celery_cascade.states import waits_its_turn
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import shown

if TYPE_CHECKING:
    from celery_cascade.sessions.starting import StartOptions

logger = logging.getLogger("celery_cascade")


def in_its_thread(options: StartOptions, *, here: bool) -> StartOptions:
    """The options with the resource that a thread without one has.

    Args:
        options: as they were given.
        here: it is run in this process, so it cannot wait for another session.

    Raises:
        UsageError: it cannot be queued.
    """
    if not isinstance(options.queue, bool):
        raise UsageError(f"queue is {shown(options.queue)}; it is True or False")
    if options.queue and options.thread_id is None:
        raise UsageError("queue=True is for a session of a thread", hint="Say which: thread_id=…, resource_id=…")
    if options.queue and here:
        raise UsageError("a session that runs here and now cannot wait for another", hint="Start it for the workers")
    if options.thread_id is not None and options.resource_id is None:
        return replace(options, resource_id=DEFAULT_RESOURCE)
    return options


def waits_for_its_turn(runtime: Runtime, session_id: str) -> bool:
    """Say what the thread made of a session that was just written; whether it has to wait.

    Never raises: it is written. Messages of steps that wait would do no harm, and its turn is found by a sweep.
    """
    try:
        row = runtime.store.session(session_id)
    except CascadeError as error:
        logger.warning("session %s is stored; what its thread made of it is not known: %s", session_id, error.message)
        return False
    thread = f"thread {row['thread_id']!r} of {row['resource_id']!r}"
    if row["continues"] is None:
        logger.info("Saved session mapping: %s is in session %s", thread, session_id)
        return False
    if waits_its_turn(row["status"], row["status_reason"], row["started_at"]):
        logger.info("Queued session %s: %s is in session %s", session_id, thread, row["continues"])
        return True
    logger.info("Resuming session: %s (%s goes on in session %s)", row["continues"], thread, session_id)
    return False


def goes_before(runtime: Runtime, session_id: str) -> str | None:
    """The session that has to end first if this one waits for its turn: the one of its thread that has begun."""
    row, found = runtime.store.session(session_id), None
    while waits_its_turn(row["status"], row["status_reason"], row["started_at"]) and row["continues"] is not None:
        try:
            row = runtime.store.session(row["continues"])
        except SessionNotFound:  # deleted meanwhile
            return found
        found = row["session_id"]
    return found
