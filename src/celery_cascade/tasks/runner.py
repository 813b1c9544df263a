"""Answers for steps to the guard: claim, checkpoint, failure. Decisions are the engine's, transactions the store's."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.exceptions import Reject

from celery_cascade.engine.retry import after_failure, error_names
from celery_cascade.errors import DefinitionError, NotSerializable, PayloadTooLarge, StoreError, StoreUnavailable
from celery_cascade.persistence import codec
from celery_cascade.persistence.rows import ClaimedStep
from celery_cascade.tasks import claiming
from celery_cascade.tasks.attempt import Attempt, RetryAsked, StepRef
from celery_cascade.tasks.calls import encoded
from celery_cascade.tasks.ending import end, set_back
from celery_cascade.tasks.giving_back import give_back_attempt
from celery_cascade.tasks.problems import error_text
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.sharing import Shared

logger = logging.getLogger("celery_cascade")

#: Seconds that a busy machine may take from a message's acceptance to the guard.
_HEAD_START = 0.25


class Runner:
    """The guard's `StepRunner` over the store."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def claim(self, ref: StepRef, request: Any) -> Attempt | None:
        """Take the step and render its call; None when there is nothing to do."""
        began = time.monotonic()  # Celery's hard time limit counts the claim, however long the store takes
        try:
            attempt = claiming.claim(self._runtime, ref)
        except (StoreUnavailable, StoreError, DefinitionError) as error:
            logger.error(
                "session %s: step %s not claimed, its message is dropped and sent again later: %s",
                ref.session,
                ref.step,
                error,
            )
            return None
        if attempt is not None:
            attempt.begun = began
            attempt.hard_limit = _hard_limit(request, self._runtime.app)
            attempt.shared = Shared(self._runtime, ref.session)
        return attempt

    def succeed(self, attempt: Attempt, value: Any) -> None:
        """Checkpoint the output and what follows from it, then publish."""
        try:
            text = encoded(self._runtime, value, f"output of step {attempt.ref.step!r}")
            output = codec.decode(text)
            shared = attempt.shared.changes()
        except (NotSerializable, PayloadTooLarge, StoreError) as error:
            set_back(self._runtime, attempt, "failure", error, delay=None, failures=1)
            raise
        try:
            end(self._runtime, attempt, text, output=output, skipped=None, shared=shared)
        except PayloadTooLarge as error:  # by the database server's own limit
            set_back(self._runtime, attempt, "failure", error, delay=None, failures=1)
            raise

    def skip(self, attempt: Attempt) -> None:
        """The body raised Ignore."""
        end(self._runtime, attempt, None, output=None, skipped="ignored")

    def fail(self, attempt: Attempt, error: BaseException) -> float | None:
        """Record a failure; the delay in seconds when the step is tried again, else None."""
        policy = self._runtime.facts(attempt.ref.session).plan.steps[attempt.ref.step].retry
        delay = None
        if not isinstance(error, Reject):
            claimed: ClaimedStep = attempt.detail
            delay = after_failure(policy, claimed.failures + 1, error_names(error))
        set_back(self._runtime, attempt, "failure", error, delay=delay, failures=1)
        return delay

    def retry(self, attempt: Attempt, asked: RetryAsked) -> float:
        """Record a retry that the task asked for."""
        if asked.options:
            logger.warning(
                "session %s: step %s: self.retry(%s): left out: a retry goes the way that its step goes",
                attempt.ref.session,
                attempt.ref.step,
                ", ".join(f"{name}={value!r}" for name, value in asked.options.items()),
            )
        call = None
        if asked.args is not None or asked.kwargs is not None:
            args = attempt.args if asked.args is None else asked.args
            kwargs = attempt.kwargs if asked.kwargs is None else asked.kwargs
            what = f"arguments of the retry of step {attempt.ref.step!r}"
            try:
                call = encoded(self._runtime, {"args": list(args), "kwargs": dict(kwargs)}, what)
            except (NotSerializable, PayloadTooLarge) as error:
                set_back(self._runtime, attempt, "failure", error, delay=None, failures=1)
                raise
        delay = max(0.0, asked.delay)
        set_back(self._runtime, attempt, "retry", asked.error, delay=delay, retries=1, call=call)
        return delay

    def requeue(self, attempt: Attempt, delay: float) -> None:
        """The body raised Reject(requeue=True)."""
        set_back(self._runtime, attempt, "requeue", None, delay=delay)

    def abandon(self, attempt: Attempt, error: BaseException) -> None:
        """The body ended by SystemExit or the like, or its end could not be written: the step is given back."""
        over = isinstance(error, SystemExit) and _over_its_limit(attempt)
        crash = not isinstance(error, (KeyboardInterrupt, StoreUnavailable))
        text = error_text(error, attempt.ref)
        give_back_attempt(self._runtime, attempt.ref, attempt.token, text, crash=crash, timed_out=over)


def _over_its_limit(attempt: Attempt) -> bool:
    """Whether this is Celery's hard time limit: billiard sends SIGTERM first, which ends the body as SystemExit.

    Its clock starts a little before ours, when the pool's child takes the message.
    """
    return attempt.hard_limit is not None and time.monotonic() - attempt.begun >= attempt.hard_limit - _HEAD_START


def _hard_limit(request: Any, app: Any) -> float | None:
    """The hard time limit that Celery applies to this request, in seconds."""
    task = app.tasks.get(request.task)
    limits = request.timelimit or (None, None)
    found = limits[0] or getattr(task, "time_limit", None) or app.conf.task_time_limit
    return None if found is None or request.is_eager else float(found)
