"""Calls and values of steps between Python and the store's text."""

from __future__ import annotations

from typing import Any

from celery_cascade.engine.decision import Call, Facts
from celery_cascade.errors import NotSerializable, PayloadTooLarge
from celery_cascade.persistence import codec
from celery_cascade.persistence.rows import ClaimedStep
from celery_cascade.tasks.attempt import Attempt, StepRef
from celery_cascade.tasks.outputs import LazyOutputs
from celery_cascade.tasks.runtime import Runtime, SessionFacts

#: The call of a step that is not going to be called.
NO_CALL: dict[str, Any] = {"args": [], "kwargs": {}}


def encoded_call(runtime: Runtime, step: str, call: Call) -> str:
    """A call as it is stored. Raises NotSerializable or PayloadTooLarge."""
    return encoded(runtime, {"args": list(call.args), "kwargs": dict(call.kwargs)}, f"arguments of step {step!r}")


def encoded(runtime: Runtime, value: Any, what: str) -> str:
    """A value as it is stored. Raises NotSerializable or PayloadTooLarge."""
    try:
        return codec.encode_limited(value, what=what, limit=runtime.config.max_payload_bytes)
    except (NotSerializable, PayloadTooLarge):
        raise
    except Exception as error:  # a value's own `__json__` may raise anything
        raise NotSerializable(
            f"{what} cannot be written as JSON: {type(error).__name__}: {error}",
            hint="Return text, numbers, true, false, null, lists and mappings",
        ) from error


def engine_facts(facts: SessionFacts, outputs: LazyOutputs) -> Facts:
    """What the engine is told of a session."""
    return Facts(session_id=facts.session_id, inputs=facts.inputs, outputs=outputs)


def attempt_of(ref: StepRef, claimed: ClaimedStep, call: dict[str, Any]) -> Attempt:
    """The attempt that a claim makes."""
    return Attempt(
        ref=ref,
        token=claimed.token,
        args=call["args"],
        kwargs=call["kwargs"],
        retries=claimed.retries,
        detail=claimed,
    )
