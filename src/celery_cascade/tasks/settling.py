"""Writing a session's end: its output once every step has ended, or what it was asked to halt as."""

from __future__ import annotations

import logging

from celery_cascade import events
from celery_cascade.engine.advance import output_reads, session_output
from celery_cascade.engine.decision import Facts
from celery_cascade.errors import CascadeError, StoreUnavailable
from celery_cascade.persistence import codec
from celery_cascade.states import SessionStatus
from celery_cascade.tasks.outputs import LazyOutputs
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.problems import error_text
from celery_cascade.tasks.runtime import Runtime

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
        logger.info("session %s is %s", session_id, status.value)
        signal = _SIGNALS.get(status)
        if signal is not None:
            signal.send(runtime.app, session_id=session_id, status=status.value)
    return status


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
