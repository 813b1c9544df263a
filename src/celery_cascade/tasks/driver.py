"""Running a session in this process: no worker, no broker, just as durable. A loop, never recursion.

Tasks get a real Celery request through `Task.apply`, so the guard and all of the runner are the same as in a worker.
Celery's time limits do not apply here; a step's `timeout` fences it in SQL all the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from celery_cascade.persistence.rows import QueuedStep
from celery_cascade.states import SessionStatus
from celery_cascade.tasks import recovery
from celery_cascade.tasks.local_worker import local_worker
from celery_cascade.tasks.publish import driving, headers_of, step_ref
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.settling import settle

logger = logging.getLogger("celery_cascade")

_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.25


def drive(runtime: Runtime, session_id: str, *, sleep: Callable[[float], None] = time.sleep) -> SessionStatus:
    """Run a session's steps here until it has ended or is suspended.

    Steps that another living process runs are waited for; those of a dead one are taken over.
    """
    with driving(), local_worker(runtime):
        recovery.recover_session(runtime, session_id)
        look, looked = _FIRST_LOOK, time.monotonic()
        while True:
            queued = runtime.store.queued_steps(session_id)
            for step in queued:
                run_step(runtime, step)
                look = _FIRST_LOOK
            if queued:
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


def run_step(runtime: Runtime, queued: QueuedStep) -> None:
    """Run one queued step through its task, as a worker would."""
    ref = step_ref(runtime.store_id, queued)
    task = runtime.app.tasks[queued.task]
    task.apply(args=(), kwargs={}, task_id=ref.task_id, retries=queued.retries, throw=False, headers=headers_of(ref))
