"""The end of an attempt, well or not, from the body's outcome to the commit and what is sent after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from celery_cascade import events
from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.engine.advance import advance, reads_after
from celery_cascade.engine.decision import Call, Decision, Ended
from celery_cascade.errors import ClaimLost, NotSerializable, PayloadTooLarge
from celery_cascade.persistence.rows import Checkpoint, ClaimedStep, Moved, NewStep, QueuedStep, Setback, StepKey
from celery_cascade.tasks.attempt import NO_ITEM, Attempt
from celery_cascade.tasks.calls import encoded_call, engine_facts
from celery_cascade.tasks.fencing import note_fenced
from celery_cascade.tasks.guard_words import note_on
from celery_cascade.tasks.outputs import LazyOutputs
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.problems import error_text, traceback_text
from celery_cascade.tasks.publish import is_driving
from celery_cascade.tasks.runtime import Runtime, SessionFacts
from celery_cascade.tasks.setbacks import after_setback
from celery_cascade.tasks.settling import settle


def end(
    runtime: Runtime,
    attempt: Attempt,
    text: str | None,
    *,
    output: Any,
    skipped: str | None,
    shared: Mapping[str, Any] | None = None,
) -> None:
    """Checkpoint a step that ended well and what follows from it, then publish.

    Args:
        runtime: of the app.
        attempt: whose step it is.
        text: the output as it is stored; None = none.
        output: the same, decoded again: what the next steps get.
        skipped: why it did not run; None = it did.
        shared: fields of the `Checkpoint`: what it has changed in the context and what it has said.

    Raises:
        ClaimLost: the step belongs to another worker by now.
    """
    ref = attempt.ref
    key = StepKey(ref.session, ref.step, ref.item)
    done = patiently(
        lambda: checkpoint_of(runtime, key, attempt.token, text, output=output, skipped=skipped),
        seconds=None,
        what="checkpoint",
    )
    if shared:
        done = replace(done, **shared)
    moved = _written(runtime, attempt, lambda: runtime.store.checkpoint(done))
    reached(CrashPoint.CHECKPOINTED, ref)
    if done.arrivals:
        reached(CrashPoint.JOIN_READY if moved.ready else CrashPoint.JOIN_ARRIVED, ref)
    _after_checkpoint(runtime, done, moved, attempt)


def checkpoint_of(
    runtime: Runtime, key: StepKey, token: str, text: str | None, *, output: Any, skipped: str | None
) -> Checkpoint:
    """What is written when a step ends well: its output, and what the engine says follows; see `end`."""
    facts = runtime.facts(key.session_id)
    event = Ended(key.step, output, skipped=skipped is not None)
    outputs = LazyOutputs(runtime.store, key.session_id, reads_after(facts.plan, event))
    decision = advance(facts.plan, engine_facts(facts, outputs), event)
    step = facts.plan.steps[key.step]
    return Checkpoint(
        key=key,
        token=token,
        status="succeeded" if skipped is None else "skipped",
        output=text,
        reason=skipped,
        phase=(step.phase or step.id)[:50],
        closed=1 + decision.closed,
        queued=_followers(runtime, facts, decision),
        skipped=[
            NewStep(step=s.step, status="skipped", task=facts.plan.steps[s.step].task, reason=s.reason)
            for s in decision.skip
        ],
        arrivals=decision.arrive,
        worker=runtime.worker_id,
        resend_after=None if is_driving(key.session_id) else runtime.config.resend_after,
    )


def _followers(runtime: Runtime, facts: SessionFacts, decision: Decision) -> list[NewStep]:
    """Rows of the steps to queue; one that cannot be called keeps no call and fails at its own claim."""
    queued = [_new_step(runtime, facts, q.step, q.call) for q in decision.queue]
    return queued + [_new_step(runtime, facts, f.step, None) for f in decision.fail]


def _new_step(runtime: Runtime, facts: SessionFacts, step: str, call: Call | None) -> NewStep:
    """The row of a step that becomes ready."""
    text = None
    if call is not None:
        with suppress(NotSerializable, PayloadTooLarge):  # it fails at its own claim, by the same error
            text = encoded_call(runtime, step, call)
    return NewStep(step=step, status="queued", task=facts.plan.steps[step].task, call=text)


def tell_checkpointed(runtime: Runtime, done: Checkpoint, *, attempt: int, version: int) -> None:
    """Tell those who listen that a step has ended."""
    events.step_checkpointed.send(
        runtime.app, session_id=done.key.session_id, step=done.key.step, item=_item(done.key.item),
        attempt=attempt, version=version, status=done.status,
    )  # fmt: skip


def _after_checkpoint(runtime: Runtime, done: Checkpoint, moved: Moved, attempt: Attempt) -> None:
    tell_checkpointed(runtime, done, attempt=attempt.ref.attempt, version=moved.version)
    if moved.halt is None:
        facts = runtime.facts(done.key.session_id)
        names = [*(row.step for row in done.queued), *moved.ready]
        runtime.publisher.send(
            QueuedStep(key=StepKey(done.key.session_id, name), task=facts.plan.steps[name].task) for name in names
        )
    if moved.halt is not None or moved.open_steps == 0:
        settle(runtime, done.key.session_id)


def _item(number: int) -> int | None:
    return None if number == NO_ITEM else number


def set_back(
    runtime: Runtime,
    attempt: Attempt,
    kind: str,
    error: BaseException | None,
    *,
    delay: float | None,
    failures: int = 0,
    retries: int = 0,
    call: str | None = None,
) -> None:
    """Record an attempt that did not succeed; see `Setback` for the words.

    Raises:
        ClaimLost: the step belongs to another worker by now.
    """
    ref = attempt.ref
    claimed: ClaimedStep = attempt.detail
    what = Setback(
        key=StepKey(ref.session, ref.step, ref.item),
        token=attempt.token,
        kind=kind,
        delay=delay,
        error=None if error is None else error_text(error, ref),
        traceback=None if error is None else traceback_text(error, note_on(ref, delay)),
        call=call,
        failures=failures,
        retries=retries,
        worker=runtime.worker_id,
        resend_after=None if is_driving(ref.session) else runtime.config.resend_after,
    )
    moved = _written(runtime, attempt, lambda: runtime.store.setback(what))
    reached(CrashPoint.STEP_FAILED if delay is None else CrashPoint.RETRY_SCHEDULED, ref)
    after_setback(runtime, what, moved, claimed)


def _written(runtime: Runtime, attempt: Attempt, write: Callable[[], Moved]) -> Moved:
    """Write the end of an attempt, however long the store is away: the body is done."""
    what = f"session {attempt.ref.session}: step {attempt.ref.step}"
    try:
        moved = patiently(write, seconds=None, what=what)
    except ClaimLost:
        runtime.tokens.close(attempt.token)
        note_fenced(runtime, attempt)
        events.claim_lost.send(
            runtime.app, session_id=attempt.ref.session, step=attempt.ref.step,
            item=_item(attempt.ref.item), attempt=attempt.ref.attempt,
        )  # fmt: skip
        raise
    runtime.tokens.close(attempt.token)
    return moved
