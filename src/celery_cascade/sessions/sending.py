"""A session from a signature: what a captured send, and `cascades.start(signature)`, come to."""

from __future__ import annotations

from typing import Any

from celery.canvas import Signature

from celery_cascade.embedded import refuse_unsafe_broker
from celery_cascade.sessions.canvas import Sent
from celery_cascade.sessions.session import Session
from celery_cascade.sessions.starting import StartOptions, start
from celery_cascade.tasks.runtime import Runtime


def send(runtime: Runtime, signature: Signature, sent: Sent) -> Session:
    """Start a canvas as a session; a `task_id` that was chosen for it is the session's id.

    Raises:
        DefinitionError, NotSerializable, PayloadTooLarge, SessionConflict, StoreUnavailable, SchemaOutOfDate:
            nothing was started, and nothing was sent.
    """
    refuse_unsafe_broker(runtime.app)
    # Not the signature's own: Celery leaves the id of an earlier send there.
    chosen: Any = sent.options.get("task_id")
    options = StartOptions(session_id=chosen, trigger="send")
    session = Session(runtime, start(runtime, signature, options=options, sent=sent))
    if runtime.app.conf.task_always_eager and runtime.app.conf.task_eager_propagates:
        session.result(timeout=0)
    return session
