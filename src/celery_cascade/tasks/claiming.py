"""Claiming a step for a message: is it ours, is it there to be taken, and how is it called."""

from __future__ import annotations

import logging
import uuid

from celery_cascade import calling
from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.engine.advance import prepare, reads
from celery_cascade.engine.decision import Fail, Queue, Skip
from celery_cascade.errors import ClaimLost, DefinitionError, SessionNotFound, StoreError
from celery_cascade.persistence import codec
from celery_cascade.persistence.rows import ClaimedStep, StepKey
from celery_cascade.tasks.attempt import Attempt, StepRef
from celery_cascade.tasks.calls import NO_CALL, attempt_of, encoded_call, engine_facts
from celery_cascade.tasks.ending import end, set_back
from celery_cascade.tasks.giving_back import give_back_attempt
from celery_cascade.tasks.local_worker import become_worker
from celery_cascade.tasks.outputs import LazyOutputs
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.problems import error_text
from celery_cascade.tasks.runtime import Runtime

logger = logging.getLogger("celery_cascade")


def claim(runtime: Runtime, ref: StepRef) -> Attempt | None:
    """Take the step and render its call; None when there is nothing to do.

    Raises:
        StoreUnavailable: the store was away for longer than `cascade_database_patience`.
    """
    patience = runtime.config.database_patience
    if not patiently(lambda: _is_ours(runtime, ref), seconds=patience, what="claim"):
        return None
    token = uuid.uuid4().hex
    runtime.tokens.open(token)
    claimed = None
    try:
        claimed = patiently(lambda: _take(runtime, ref, token), seconds=patience, what="claim")
        if claimed is None:
            logger.debug("session %s: step %s: message is a duplicate or late", ref.session, ref.step)
        else:
            reached(CrashPoint.CLAIMED, ref)
        attempt = None if claimed is None else _begun(runtime, ref, claimed)
    except (StoreError, DefinitionError):  # nothing was claimed: what is stored of the session cannot be read
        runtime.tokens.close(token)
        raise
    except BaseException as error:
        # Without an answer (the store went away, a soft time limit) the claim may be committed, or yet be: the server
        # goes on with a statement whose client has left. Claiming again with the same token leaves it nothing to take.
        again = None if claimed is not None else lambda: _take(runtime, ref, token)
        give_back_attempt(runtime, ref, token, error_text(error, ref), crash=False, began=False, claim_again=again)
        raise
    if attempt is None:
        runtime.tokens.close(token)
    return attempt


def _is_ours(runtime: Runtime, ref: StepRef) -> bool:
    if ref.store == runtime.store_id:
        return True
    logger.error(
        "a message of session %s belongs to store %s at %s, but this worker uses store %s at %s; it is dropped, and "
        "the store that owns it sends it again. Two stores share a queue; which one, says: %s",
        ref.session,
        ref.store,
        ref.place or "a place that the message does not tell",
        runtime.store_id,
        runtime.store.database.place,
        calling.command("doctor"),
    )
    return False


def _take(runtime: Runtime, ref: StepRef, token: str) -> ClaimedStep | None:
    try:
        facts = runtime.facts(ref.session)
    except SessionNotFound:
        return None
    step = facts.plan.steps.get(ref.step)
    if step is None:
        logger.error("session %s has no step %s; its message is dropped", ref.session, ref.step)
        return None
    return runtime.store.claim(
        StepKey(ref.session, ref.step, ref.item),
        attempt=ref.attempt,
        token=token,
        worker=runtime.worker_id or become_worker(runtime),
        runner=runtime.runner_id,
        timeout=step.timeout,
        on_crash=None if step.on_crash == "retry" else step.on_crash,
    )


def _begun(runtime: Runtime, ref: StepRef, claimed: ClaimedStep) -> Attempt | None:
    """The call of a claimed step. From here on the row says running: whatever goes wrong must be written down."""
    try:
        what = f"session {ref.session}: step {ref.step}"
        return patiently(lambda: _attempt(runtime, ref, claimed), seconds=None, what=what)
    except ClaimLost as error:
        logger.warning("session %s: step %s: %s", ref.session, ref.step, error.message)
    except Exception as error:  # noqa: BLE001  a row that says running must not be left alone
        set_back(runtime, attempt_of(ref, claimed, NO_CALL), "failure", error, delay=None, failures=1)
    return None


def _attempt(runtime: Runtime, ref: StepRef, claimed: ClaimedStep) -> Attempt | None:
    if claimed.call is not None:
        return attempt_of(ref, claimed, codec.decode(claimed.call))
    return _rendered(runtime, ref, claimed)


def _rendered(runtime: Runtime, ref: StepRef, claimed: ClaimedStep) -> Attempt | None:
    """A join is rendered at its claim; it may turn out to be skipped, or not to be callable."""
    facts = runtime.facts(ref.session)
    needs = facts.plan.steps[ref.step].needs
    outputs = LazyOutputs(runtime.store, ref.session, {*needs, *reads(facts.plan, ref.step)})
    found = prepare(facts.plan, ref.step, engine_facts(facts, outputs), outputs.skipped() & frozenset(needs))
    match found:
        case Queue(call=call):
            return attempt_of(ref, claimed, codec.decode(encoded_call(runtime, ref.step, call)))
        case Skip(reason=reason):
            end(runtime, attempt_of(ref, claimed, NO_CALL), None, output=None, skipped=reason)
        case Fail(error=error):
            set_back(runtime, attempt_of(ref, claimed, NO_CALL), "failure", error, delay=None, failures=1)
    return None
