"""Whether a session can go on from what is stored of it, asked before anything of it is changed (R85)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_cascade.definition.plan import Plan
from celery_cascade.errors import CascadeError, NotResumable, StoreError, StoreUnavailable
from celery_cascade.persistence import codec
from celery_cascade.persistence.rows import NO_ITEM, Row
from celery_cascade.states import FINAL_STEP, SessionStatus, StepStatus
from celery_cascade.tasks.runtime import Runtime

_DONE = frozenset({StepStatus.SUCCEEDED, StepStatus.SKIPPED})


def check_restorable(runtime: Runtime, row: Row) -> None:
    """Pass if all that a session's further way needs is there and can be read.

    Raises:
        NotResumable: "Failed to restore …", with the step and column. Nothing was changed.
    """
    session_id = row["session_id"]
    try:
        why = _obstacle(runtime, row)
    except StoreUnavailable:
        raise
    except CascadeError as error:
        why = error.message.removeprefix(f"session {session_id}: ")
    if why is None:
        return
    later = runtime.store.session(session_id)
    if later["version"] != row["version"]:  # row and steps are two looks, and somebody else has moved it in between
        check_restorable(runtime, later)
        return
    raise NotResumable(
        f"Failed to restore session {session_id}: {why}",
        hint="Nothing of it was changed. Put the value right with a SQL client,\n"
        f"then: cascade resume {session_id}\n"
        f"or end it: cascade cancel {session_id}\n"
        "and start it anew with the same inputs",
    )


def _obstacle(runtime: Runtime, row: Row) -> str | None:
    _readable(row["input_data"], "its inputs")
    if row["definition_digest"] is None:
        return "its definition is not stored"
    plan = runtime.plan(row["definition_digest"])
    steps = runtime.store.steps(row["session_id"])
    for step in steps:
        for column in ("output", "call"):
            _readable(step[column], f"step {step['step']!r}: its {column}")
    if row["status"] == SessionStatus.ACTIVE:  # it moves while we look
        return None
    return _missing(plan, {step["step"]: step for step in steps if step["item"] == NO_ITEM}, row)


def _readable(text: str | None, what: str) -> None:
    try:
        if text is not None:
            codec.decode(text)
    except StoreError as error:
        raise StoreError(f"{what}: {error.message}", hint=error.hint) from error


def _missing(plan: Plan, steps: Mapping[str, Mapping[str, Any]], row: Row) -> str | None:
    """A step that must have a row by now and has none: its checkpoint is lost, or it would never be queued."""
    for step in plan.steps.values():
        if step.id in steps:
            continue
        needs = [steps[need]["status"] in _DONE if need in steps else False for need in step.needs]
        if len(needs) != 1 or all(needs):
            return f"step {step.id!r}: its row is lost"
    closed = sum(step["status"] in FINAL_STEP for step in steps.values())
    if closed != row["total_steps"] - row["open_steps"]:
        return f"{closed} steps have ended, but its head says {row['total_steps'] - row['open_steps']}"
    return None
