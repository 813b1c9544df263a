"""Writing a session's end: its output once every step has ended, or what it was asked to halt as."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from celery_cascade import events
from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.engine.advance import output_reads, session_output
from celery_cascade.engine.decision import Facts
from celery_cascade.errors import CascadeError, StoreUnavailable
from celery_cascade.persistence import codec
from celery_cascade.states import SessionStatus
from celery_cascade.tasks.outputs import LazyOutputs
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.problems import error_text, told
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.turns import begin_next

logger = logging.getLogger("celery_cascade")

_SIGNALS = {
    SessionStatus.COMPLETED: events.session_completed,
    SessionStatus.FAILED: events.session_failed,
    SessionStatus.SUSPENDED: events.session_suspended,
}


def settle(runtime: Runtime, session_id: str) -> SessionStatus | None:
    """Bring a session to its end if nothing of it is left to run. Safe at any time, by anybody."""
    status = patiently(lambda: _settle(runtime, session_id), seconds=None, what=f"session {session_id}")
    if status is not None:
        reached(CrashPoint.ENDED)
        logger.info("session %s is %s", session_id, status.value)
        _signal(runtime, session_id, status)
        if status.final:
            begin_next(runtime, session_id)
    return status


def _signal(runtime: Runtime, session_id: str, status: SessionStatus) -> None:
    """Tell those who listen. What it says of the session is read again: it is seldom, and only when asked for."""
    signal = _SIGNALS.get(status)
    if signal is None or not signal.receivers:
        return
    more = {}
    if status is not SessionStatus.COMPLETED:
        row = _row(runtime, session_id)
        if status is SessionStatus.SUSPENDED:
            more = {"reason": row.get("status_reason")}
        else:
            more = {"error": told(row.get("error"))}
    signal.send(runtime.app, session_id=session_id, status=status.value, **more)


def _row(runtime: Runtime, session_id: str) -> Mapping[str, Any]:
    try:
        return runtime.store.session(session_id)
    except CascadeError as error:  # the end is written; that a word about it is missing must not look like its failure
        logger.warning("session %s: what is told of its end is not complete: %s", session_id, error.message)
        return {}


def _settle(runtime: Runtime, session_id: str) -> SessionStatus | None:
    head = runtime.store.head(session_id)
    output = error = None
    ended = head["status"] == SessionStatus.ACTIVE and head["open_steps"] == 0
    if ended and head["halt"] in (None, "suspended"):
        try:
            output = _output(runtime, session_id)
        except StoreUnavailable:
            raise
        except CascadeError as problem:  # its template fails, or what is stored of it cannot be read
            error = error_text(problem)
    return runtime.store.settle(session_id, output=output, error=error)


def _output(runtime: Runtime, session_id: str) -> str:
    facts = runtime.facts(session_id)
    outputs = LazyOutputs(runtime.store, session_id, output_reads(facts.plan))
    value = session_output(facts.plan, Facts(session_id=session_id, inputs=facts.inputs, outputs=outputs))
    return codec.encode_limited(value, what="output of the session", limit=runtime.config.max_payload_bytes)
