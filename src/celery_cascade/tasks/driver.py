"""Running a session in this process: no worker, no broker, just as durable. A loop, never recursion.

Tasks get a real Celery request through `Task.apply`, so the guard and all of the runner are the same as in a worker.
Celery's time limits do not apply here; a step's `timeout` fences it in SQL all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from celery.exceptions import NotRegistered

from celery_cascade.errors import CascadeError, DefinitionError
from celery_cascade.persistence.rows import QueuedStep
from celery_cascade.states import SessionStatus
from celery_cascade.tasks import overtime, recovery
from celery_cascade.tasks.local_worker import local_worker
from celery_cascade.tasks.publish import driving, headers_of, step_ref
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.settling import settle

logger = logging.getLogger("celery_cascade")

_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.25


def drive(runtime: Runtime, session_id: str, *, sleep: Callable[[float], None] = time.sleep) -> SessionStatus:
    """Run a session's steps here until it has ended or is suspended.

    Steps that another living process runs are waited for; those of a dead one are taken over.

    Raises:
        StoreError: its definition or inputs cannot be read.
        DefinitionError: the app does not know the task of a step. The step stays queued.
    """
    runtime.facts(session_id)
    with driving(session_id), local_worker(runtime), _timekeeper(runtime, session_id):
        recovery.recover_session(runtime, session_id)
        look, looked = _FIRST_LOOK, time.monotonic()
        before: list[QueuedStep] = []
        errors: list[BaseException] = []
        while True:
            queued = runtime.store.queued_steps(session_id)
            if queued and queued == before:
                raise _stuck(queued[0], errors)
            errors = [error for step in queued if (error := run_step(runtime, step)) is not None]
            before = queued
            if queued:
                look = _FIRST_LOOK
                continue
            settle(runtime, session_id)
            status = SessionStatus(runtime.store.head(session_id)["status"])
            if status is not SessionStatus.ACTIVE:
                return status
            sleep(look)
            look = min(look * 1.5, _LONGEST_LOOK)
            if time.monotonic() - looked > runtime.config.timer_interval:
                recovery.recover_session(runtime, session_id)
                looked = time.monotonic()


def run_step(runtime: Runtime, queued: QueuedStep) -> BaseException | None:
    """Run one queued step through its task, as a worker would; returns what Celery would show as its error."""
    ref = step_ref(runtime.store_id, queued)
    try:
        task = runtime.app.tasks[queued.task]
    except NotRegistered:
        raise DefinitionError(
            f"session {ref.session}: step {ref.step!r}: task {queued.task!r} is not registered in app "
            f"{runtime.app.main!r}",
            hint=f"Import the module that defines it, then: cascade resume {ref.session} --local",
        ) from None
    done = task.apply(
        args=(), kwargs={}, task_id=ref.task_id, retries=queued.retries, throw=False, headers=headers_of(ref)
    )
    return done.result if isinstance(done.result, BaseException) else None


def _stuck(step: QueuedStep, errors: list[BaseException]) -> CascadeError:
    """A step that was run and yet is queued as before: its claim failed, and would fail again at once."""
    for error in errors:
        if isinstance(error, CascadeError):
            return error
    return CascadeError(
        f"session {step.key.session_id}: step {step.key.step!r} could not be begun: {errors or 'no claim'}",
        hint=f"Look: cascade show {step.key.session_id}",
    )


@contextmanager
def _timekeeper(runtime: Runtime, session_id: str) -> Iterator[None]:
    """A thread that ends overdue steps and an expired session while a body keeps this one busy."""
    timed = any(step.timeout is not None for step in runtime.facts(session_id).plan.steps.values())
    if not timed and runtime.store.head(session_id)["expires_at"] is None:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_keep_time, args=(runtime, session_id, stop), name="cascade-time", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=runtime.config.heartbeat_timeout)


def _keep_time(runtime: Runtime, session_id: str, stop: threading.Event) -> None:
    with driving(session_id):
        while not stop.wait(runtime.config.timer_interval):
            try:
                overtime.end_overdue_of(runtime, session_id)
            except CascadeError as error:
                logger.warning("session %s: could not look for what is overdue: %s", session_id, error.message)
