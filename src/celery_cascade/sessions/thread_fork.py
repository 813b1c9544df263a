"""A conversation that goes two ways: a second thread with all that was said and set in the first (R100, R101)."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass

from celery_cascade.errors import SessionConflict, SessionNotFound
from celery_cascade.sessions.branching import Change
from celery_cascade.sessions.forking import ForkOptions, fork
from celery_cascade.sessions.ids import check_names
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkedThread:
    """The new thread, and the session that it begins with."""

    thread_id: str
    resource_id: str
    session_id: str


def fork_thread(
    runtime: Runtime,
    thread_id: str,
    resource_id: str,
    new_thread_id: str | None = None,
    new_resource_id: str | None = None,
    *,
    session_id: str | None = None,
    actor: str | None = None,
) -> ForkedThread:
    """Begin a second thread where the first one is; from there on neither sees what happens in the other.

    The new thread's session is a fork of the first one's: it keeps what has ended well there, and runs the rest, if
    anything is left. Start the next turn in it as in any thread.

    Args:
        runtime: of the app.
        thread_id, resource_id: the first thread; nothing of it changes.
        new_thread_id: of the second; None = `fork-` and the time in milliseconds.
        new_resource_id: whose it is; None = the same.
        session_id: of its session; None = a random one.
        actor: who; kept with the new session.

    Raises:
        SessionNotFound: there is no such thread, or its session is gone.
        SessionConflict: the new thread is there already.
    """
    check_names(thread_id=thread_id, resource_id=resource_id)
    origin = runtime.store.mapping(thread_id, resource_id)
    if origin is None:
        look = f"cascade threads ls --resource={shlex.quote(resource_id)}"
        raise SessionNotFound(
            "Parent session not found. Cannot fork from non-existent thread.",
            hint=f"There is no {shown(thread_id)} of {shown(resource_id)}\nList them: {look}",
        )
    thread = f"fork-{time.time_ns() // 1_000_000}" if new_thread_id is None else new_thread_id
    resource = resource_id if new_resource_id is None else new_resource_id
    check_names(thread_id=thread, resource_id=resource)
    there = runtime.store.mapping(thread, resource)
    if there is not None:
        raise SessionConflict(
            f"thread {thread!r} of {resource!r} is there already, in session {there['session_id']}",
            hint=f"Take another name for the fork; look: cascade show {there['session_id']}",
        )
    options = ForkOptions(session_id=session_id, thread_id=thread, resource_id=resource, actor=actor)
    made = fork(runtime, origin["session_id"], Change(), options, idle=True)
    return ForkedThread(thread_id=thread, resource_id=resource, session_id=made)
