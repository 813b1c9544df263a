"""One step in a worker, from claim to end: the only place where a body's outcome becomes a checkpoint.

What is raised from here is what Celery shows: SUCCESS, RETRY, FAILURE, or nothing at all (Ignore). What is true of
the session is what the runner wrote before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery.exceptions import Ignore, Reject, Retry
from celery.utils.log import get_task_logger

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import ClaimLost, NotSerializable, PayloadTooLarge
from celery_cascade.tasks.attempt import STEP_HEADER, Attempt, StepRef, StepRunner
from celery_cascade.tasks.current import RUNNING, Running
from celery_cascade.tasks.guard_words import add_note, name_of, stray_retry

logger = get_task_logger("celery_cascade.tasks")

#: A step that rejects its message wants to be run elsewhere or later. At once would spin.
REQUEUE_DELAY = 5.0


def step_ref(request: Any) -> StepRef | None:
    """Which step this request is; None if it is none, or carries the header of another message."""
    header = request.headers[STEP_HEADER]
    if not isinstance(header, Mapping) or header.get("task_id") != request.id:
        return None
    ref = StepRef.from_header(header)
    if ref is None:
        # Written by another version of us. SQL still says queued, so a worker that can read it gets it again.
        logger.warning("message %s is a step that this version cannot read; left to others: %r", request.id, header)
        raise Ignore(f"unreadable {STEP_HEADER}: {header!r}")
    return ref


def run_step(task: Any, body: Callable[..., Any], request: Any, ref: StepRef, runner: StepRunner) -> Any:
    """Claim, run, checkpoint. The message's own arguments are empty: the claim brings the real ones."""
    reached(CrashPoint.CLAIM, ref)
    attempt = runner.claim(ref, request)
    if attempt is None:
        raise Ignore(f"nothing to do: {name_of(ref)}")
    running = Running(attempt, request)
    try:
        request.args, request.kwargs, request.retries = list(attempt.args), dict(attempt.kwargs), attempt.retries
        reached(CrashPoint.BODY, ref)
        value = _run_body(task, body, running)
    except BaseException as exc:
        reached(CrashPoint.BODY_ENDED, ref)
        verdict = _settle(runner, running, exc)
        if verdict is exc:
            raise
        raise verdict from exc
    reached(CrashPoint.BODY_ENDED, ref)
    if running.asked is not None:
        raise _retry(runner, running)
    _succeed(runner, attempt, value)
    return value


def _run_body(task: Any, body: Callable[..., Any], running: Running) -> Any:
    token = RUNNING.set(running)
    try:
        return body(task, *running.request.args, **running.request.kwargs)
    finally:
        RUNNING.reset(token)


def _settle(runner: StepRunner, running: Running, exc: BaseException) -> BaseException:
    """Record how the body ended; returns what Celery is to see."""
    attempt = running.attempt
    if not isinstance(exc, Exception):  # SystemExit, KeyboardInterrupt, a pool's own time-out: the worker goes down
        _abandon(runner, attempt, exc)
        return exc
    if running.asked is not None:
        # In Celery the message would be out by now, whatever the body does afterwards (R87).
        return _retry(runner, running)
    verdict: BaseException = exc
    if isinstance(exc, Ignore):
        _tell(runner, attempt, runner.skip, attempt)
    elif isinstance(exc, Reject) and exc.requeue:
        _tell(runner, attempt, runner.requeue, attempt, REQUEUE_DELAY)
        verdict = Ignore(f"rejected and queued again: {name_of(attempt.ref)}")
    elif isinstance(exc, Retry):
        verdict = _fail(runner, attempt, stray_retry(attempt.ref, exc))
    else:
        verdict = _fail(runner, attempt, exc)
    return verdict


def _succeed(runner: StepRunner, attempt: Attempt, value: Any) -> None:
    try:
        _tell(runner, attempt, runner.succeed, attempt, value, recorded=(NotSerializable, PayloadTooLarge))
    except (NotSerializable, PayloadTooLarge) as exc:
        add_note(exc, attempt.ref)
        raise


def _retry(runner: StepRunner, running: Running) -> BaseException:
    signal: Any = running.signal
    signal.when = _tell(runner, running.attempt, runner.retry, running.attempt, running.asked)
    return signal  # type: ignore[no-any-return]  # the Retry that `self.retry` made


def _fail(runner: StepRunner, attempt: Attempt, exc: Exception) -> BaseException:
    delay = _tell(runner, attempt, runner.fail, attempt, exc)
    if delay is not None:
        return Retry(exc=exc, when=delay)  # type: ignore[no-any-return]
    add_note(exc, attempt.ref)
    return exc


def _tell(
    runner: StepRunner,
    attempt: Attempt,
    report: Callable[..., Any],
    *args: Any,
    recorded: tuple[type[Exception], ...] = (),
) -> Any:
    """Report to the runner. `recorded` are errors by which it says that the end is written all the same."""
    try:
        return report(*args)
    except ClaimLost as exc:
        logger.warning(
            "claim lost: %s belongs to another worker by now; this run counts for nothing (%s)",
            name_of(attempt.ref),
            exc.message,
        )
        raise Ignore(f"claim lost: {name_of(attempt.ref)}") from exc
    except recorded:
        raise
    except BaseException as exc:
        _abandon(runner, attempt, exc)
        raise


def _abandon(runner: StepRunner, attempt: Attempt, exc: BaseException) -> None:
    try:
        runner.abandon(attempt, exc)
    except ClaimLost:
        pass  # somebody else has the step already, which is all that abandon is for
    except Exception:
        logger.warning("could not give back %s; recovery will", name_of(attempt.ref), exc_info=True)
