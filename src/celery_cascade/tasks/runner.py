"""Answers for steps to the guard: claim, checkpoint, failure. Decisions are the engine's, transactions the store's."""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import suppress
from typing import Any

from celery.exceptions import Reject

from celery_cascade import events
from celery_cascade.engine.advance import advance, prepare, reads, reads_after
from celery_cascade.engine.decision import Call, Decision, Ended, Facts, Fail, Queue, Skip
from celery_cascade.engine.retry import after_failure, error_names
from celery_cascade.errors import (
    ClaimLost,
    DefinitionError,
    NotSerializable,
    PayloadTooLarge,
    SessionNotFound,
    StoreError,
    StoreUnavailable,
)
from celery_cascade.persistence import codec
from celery_cascade.persistence.rows import Checkpoint, ClaimedStep, Moved, NewStep, QueuedStep, Setback, StepKey
from celery_cascade.tasks import recovery
from celery_cascade.tasks.attempt import Attempt, RetryAsked, StepRef
from celery_cascade.tasks.giving_back import surely
from celery_cascade.tasks.local_worker import become_worker
from celery_cascade.tasks.outputs import LazyOutputs
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.problems import error_text, traceback_text
from celery_cascade.tasks.publish import is_driving
from celery_cascade.tasks.runtime import Runtime, SessionFacts
from celery_cascade.tasks.settling import settle

logger = logging.getLogger("celery_cascade")

_NO_CALL: dict[str, Any] = {"args": [], "kwargs": {}}


class Runner:
    """The guard's `StepRunner` over the store."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    # -- claim
    def claim(self, ref: StepRef, request: Any) -> Attempt | None:
        """Take the step and render its call; None when there is nothing to do."""
        try:
            attempt = self._claim(ref)
        except (StoreUnavailable, StoreError, DefinitionError) as error:
            logger.error(
                "session %s: step %s not claimed, its message is dropped and sent again later: %s",
                ref.session,
                ref.step,
                error,
            )
            return None
        if attempt is not None:
            attempt.hard_limit = _hard_limit(request, self._runtime.app)
        return attempt

    def _claim(self, ref: StepRef) -> Attempt | None:
        patience = self._runtime.config.database_patience
        if not patiently(lambda: self._is_ours(ref), seconds=patience, what="claim"):
            return None
        token = uuid.uuid4().hex
        self._runtime.tokens.open(token)
        try:
            claimed = patiently(lambda: self._take(ref, token), seconds=patience, what="claim")
            if claimed is None:
                logger.debug("session %s: step %s: message is a duplicate or late", ref.session, ref.step)
            attempt = None if claimed is None else self._begun(ref, claimed)
        except StoreUnavailable as error:
            # The claim may have been committed although its answer was lost.
            text = error_text(error, ref)
            surely(
                lambda: self._give_back(ref, token, text, timed_out=False, crash=False),
                what=f"session {ref.session}: step {ref.step}",
            )
            raise
        except BaseException:
            self._runtime.tokens.close(token)
            raise
        if attempt is None:
            self._runtime.tokens.close(token)
        return attempt

    def _is_ours(self, ref: StepRef) -> bool:
        if ref.store == self._runtime.store_id:
            return True
        logger.error(
            "a message of session %s belongs to store %s, but this worker uses store %s at %s; it is dropped, and"
            " its own store sends it again. Two stores share a queue: cascade doctor names it",
            ref.session,
            ref.store,
            self._runtime.store_id,
            self._runtime.store.database.shown,
        )
        return False

    def _take(self, ref: StepRef, token: str) -> ClaimedStep | None:
        try:
            facts = self._runtime.facts(ref.session)
        except SessionNotFound:
            return None
        step = facts.plan.steps.get(ref.step)
        if step is None:
            logger.error("session %s has no step %s; its message is dropped", ref.session, ref.step)
            return None
        return self._runtime.store.claim(
            StepKey(ref.session, ref.step, ref.item),
            attempt=ref.attempt,
            token=token,
            worker=self._runtime.worker_id or become_worker(self._runtime),
            runner=self._runtime.runner_id,
            timeout=step.timeout,
        )

    def _begun(self, ref: StepRef, claimed: ClaimedStep) -> Attempt | None:
        """The call of a claimed step. From here on the row says running: whatever goes wrong must be written down."""
        try:
            what = f"session {ref.session}: step {ref.step}"
            return patiently(lambda: self._attempt(ref, claimed), seconds=None, what=what)
        except ClaimLost as error:
            logger.warning("session %s: step %s: %s", ref.session, ref.step, error.message)
        except Exception as error:  # noqa: BLE001  a row that says running must not be left alone
            self._set_back(_attempt_of(ref, claimed, _NO_CALL), "failure", error, delay=None, failures=1)
        return None

    def _attempt(self, ref: StepRef, claimed: ClaimedStep) -> Attempt | None:
        if claimed.call is not None:
            return _attempt_of(ref, claimed, codec.decode(claimed.call))
        return self._rendered(ref, claimed)

    def _rendered(self, ref: StepRef, claimed: ClaimedStep) -> Attempt | None:
        """A join is rendered at its claim; it may turn out to be skipped, or not to be callable."""
        facts = self._runtime.facts(ref.session)
        needs = facts.plan.steps[ref.step].needs
        outputs = LazyOutputs(self._runtime.store, ref.session, {*needs, *reads(facts.plan, ref.step)})
        found = prepare(facts.plan, ref.step, _facts(facts, outputs), outputs.skipped() & frozenset(needs))
        match found:
            case Queue(call=call):
                return _attempt_of(ref, claimed, codec.decode(self.encoded_call(ref.step, call)))
            case Skip(reason=reason):
                self._end(_attempt_of(ref, claimed, _NO_CALL), None, output=None, skipped=reason)
            case Fail(error=error):
                self._set_back(_attempt_of(ref, claimed, _NO_CALL), "failure", error, delay=None, failures=1)
        return None

    # -- the body ended
    def succeed(self, attempt: Attempt, value: Any) -> None:
        """Checkpoint the output and what follows from it, then publish."""
        try:
            text = self._encoded(value, f"output of step {attempt.ref.step!r}")
            output = codec.decode(text)
        except (NotSerializable, PayloadTooLarge, StoreError) as error:
            self._set_back(attempt, "failure", error, delay=None, failures=1)
            raise
        self._end(attempt, text, output=output, skipped=None)

    def skip(self, attempt: Attempt) -> None:
        """The body raised Ignore."""
        self._end(attempt, None, output=None, skipped="ignored")

    def _end(self, attempt: Attempt, text: str | None, *, output: Any, skipped: str | None) -> None:
        ref = attempt.ref
        facts = self._runtime.facts(ref.session)
        event = Ended(ref.step, output, skipped=skipped is not None)
        outputs = LazyOutputs(self._runtime.store, ref.session, reads_after(facts.plan, event))
        decision = patiently(
            lambda: advance(facts.plan, _facts(facts, outputs), event), seconds=None, what="checkpoint"
        )
        resend = None if is_driving(ref.session) else self._runtime.config.resend_after
        step = facts.plan.steps[ref.step]
        done = Checkpoint(
            key=StepKey(ref.session, ref.step, ref.item),
            token=attempt.token,
            status="succeeded" if skipped is None else "skipped",
            output=text,
            reason=skipped,
            phase=(step.phase or step.id)[:50],
            closed=1 + decision.closed,
            queued=self._followers(facts, decision),
            skipped=[
                NewStep(step=s.step, status="skipped", task=facts.plan.steps[s.step].task, reason=s.reason)
                for s in decision.skip
            ],
            arrivals=decision.arrive,
            worker=self._runtime.worker_id,
            resend_after=resend,
        )
        moved = self._written(attempt, lambda: self._runtime.store.checkpoint(done))
        self._after_checkpoint(facts, done, moved, attempt)

    def _followers(self, facts: SessionFacts, decision: Decision) -> list[NewStep]:
        """Rows of the steps to queue; one that cannot be called keeps no call and fails at its own claim."""
        queued = [self.new_step(facts, q.step, q.call) for q in decision.queue]
        return queued + [self.new_step(facts, f.step, None) for f in decision.fail]

    def new_step(self, facts: SessionFacts, step: str, call: Call | None) -> NewStep:
        """The row of a step that becomes ready."""
        text = None
        if call is not None:
            with suppress(NotSerializable, PayloadTooLarge):  # it fails at its own claim, by the same error
                text = self.encoded_call(step, call)
        return NewStep(step=step, status="queued", task=facts.plan.steps[step].task, call=text)

    def encoded_call(self, step: str, call: Call) -> str:
        """A call as it is stored. Raises NotSerializable or PayloadTooLarge."""
        return self._encoded({"args": list(call.args), "kwargs": dict(call.kwargs)}, f"arguments of step {step!r}")

    def _encoded(self, value: Any, what: str) -> str:
        try:
            return codec.encode_limited(value, what=what, limit=self._runtime.config.max_payload_bytes)
        except (NotSerializable, PayloadTooLarge):
            raise
        except Exception as error:  # a value's own `__json__` may raise anything
            raise NotSerializable(
                f"{what} cannot be written as JSON: {type(error).__name__}: {error}",
                hint="Return text, numbers, true, false, null, lists and mappings",
            ) from error

    def _after_checkpoint(self, facts: SessionFacts, done: Checkpoint, moved: Moved, attempt: Attempt) -> None:
        events.step_checkpointed.send(
            self._runtime.app, session_id=done.key.session_id, step=done.key.step, item=done.key.item,
            attempt=attempt.ref.attempt, version=moved.version, status=done.status,
        )  # fmt: skip
        if moved.halt is None:
            names = [*(row.step for row in done.queued), *moved.ready]
            self._runtime.publisher.send(
                QueuedStep(key=StepKey(done.key.session_id, name), task=facts.plan.steps[name].task) for name in names
            )
        if moved.halt is not None or moved.open_steps == 0:
            settle(self._runtime, done.key.session_id)

    def _written(self, attempt: Attempt, write: Any) -> Moved:
        """Write the end of an attempt, however long the store is away: the body is done."""
        what = f"session {attempt.ref.session}: step {attempt.ref.step}"
        try:
            moved: Moved = patiently(write, seconds=None, what=what)
        except ClaimLost:
            self._runtime.tokens.close(attempt.token)
            events.claim_lost.send(
                self._runtime.app, session_id=attempt.ref.session, step=attempt.ref.step,
                item=attempt.ref.item, attempt=attempt.ref.attempt,
            )  # fmt: skip
            raise
        self._runtime.tokens.close(attempt.token)
        return moved

    # -- the body did not end well
    def fail(self, attempt: Attempt, error: BaseException) -> float | None:
        """Record a failure; the delay in seconds when the step is tried again, else None."""
        policy = self._runtime.facts(attempt.ref.session).plan.steps[attempt.ref.step].retry
        delay = None
        if not isinstance(error, Reject):
            claimed: ClaimedStep = attempt.detail
            delay = after_failure(policy, claimed.failures + 1, error_names(error))
        self._set_back(attempt, "failure", error, delay=delay, failures=1)
        return delay

    def retry(self, attempt: Attempt, asked: RetryAsked) -> float:
        """Record a retry that the task asked for."""
        call = None
        if asked.args is not None or asked.kwargs is not None:
            args = attempt.args if asked.args is None else asked.args
            kwargs = attempt.kwargs if asked.kwargs is None else asked.kwargs
            what = f"arguments of the retry of step {attempt.ref.step!r}"
            try:
                call = self._encoded({"args": list(args), "kwargs": dict(kwargs)}, what)
            except (NotSerializable, PayloadTooLarge) as error:
                self._set_back(attempt, "failure", error, delay=None, failures=1)
                raise
        delay = max(0.0, asked.delay)
        self._set_back(attempt, "retry", asked.error, delay=delay, retries=1, call=call)
        return delay

    def requeue(self, attempt: Attempt, delay: float) -> None:
        """The body raised Reject(requeue=True)."""
        self._set_back(attempt, "requeue", None, delay=delay)

    def abandon(self, attempt: Attempt, error: BaseException) -> None:
        """The body ended by SystemExit or the like, or its end could not be written: the step is given back."""
        over = isinstance(error, SystemExit) and _over_its_limit(attempt)
        crash = not isinstance(error, (KeyboardInterrupt, StoreUnavailable))
        text = error_text(error, attempt.ref)
        surely(
            lambda: self._give_back(attempt.ref, attempt.token, text, timed_out=over, crash=crash),
            what=f"session {attempt.ref.session}: step {attempt.ref.step}",
        )

    def _give_back(self, ref: StepRef, token: str, error: str, *, timed_out: bool, crash: bool) -> None:
        """Nothing if the claim never came about, or its end is written already: the token says so."""
        orphan = self._runtime.store.one_running(StepKey(ref.session, ref.step, ref.item), ref.attempt)
        if orphan is not None and orphan.token == token:
            if timed_out:
                recovery.time_out(self._runtime, orphan)
            else:
                recovery.give_back(self._runtime, orphan, error, certain=True, crash=crash)
        self._runtime.tokens.close(token)

    def _set_back(
        self,
        attempt: Attempt,
        kind: str,
        error: BaseException | None,
        *,
        delay: float | None,
        failures: int = 0,
        retries: int = 0,
        call: str | None = None,
    ) -> None:
        ref = attempt.ref
        claimed: ClaimedStep = attempt.detail
        what = Setback(
            key=StepKey(ref.session, ref.step, ref.item),
            token=attempt.token,
            kind=kind,
            delay=delay,
            error=None if error is None else error_text(error, ref),
            traceback=None if error is None else traceback_text(error),
            call=call,
            failures=failures,
            retries=retries,
            worker=self._runtime.worker_id,
            resend_after=None if is_driving(ref.session) else self._runtime.config.resend_after,
        )
        moved = self._written(attempt, lambda: self._runtime.store.setback(what))
        recovery.after_setback(self._runtime, what, moved, claimed)


def _over_its_limit(attempt: Attempt) -> bool:
    """Whether this is Celery's hard time limit: billiard sends SIGTERM first, which ends the body as SystemExit."""
    return attempt.hard_limit is not None and time.monotonic() - attempt.begun >= attempt.hard_limit - 0.1


def _hard_limit(request: Any, app: Any) -> float | None:
    """The hard time limit that Celery applies to this request, in seconds."""
    task = app.tasks.get(request.task)
    limits = request.timelimit or (None, None)
    found = limits[0] or getattr(task, "time_limit", None) or app.conf.task_time_limit
    return None if found is None or request.is_eager else float(found)


def _facts(facts: SessionFacts, outputs: LazyOutputs) -> Facts:
    return Facts(session_id=facts.session_id, inputs=facts.inputs, outputs=outputs)


def _attempt_of(ref: StepRef, claimed: ClaimedStep, call: dict[str, Any]) -> Attempt:
    return Attempt(
        ref=ref,
        token=claimed.token,
        args=call["args"],
        kwargs=call["kwargs"],
        retries=claimed.retries,
        detail=claimed,
    )
