"""Which attempt this code runs in: set by the guard around a step's body, and nowhere else."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from celery_cascade.tasks.attempt import Attempt, RetryAsked


@dataclass(slots=True, eq=False)
class Running:
    """A body that is running now, and whether it has asked for a retry meanwhile."""

    attempt: Attempt
    request: Any
    asked: RetryAsked | None = None
    signal: BaseException | None = None  #: the `Retry` that `self.retry()` made; Celery is to see this one


#: Not the request stack: a task called directly inside a step has a request of its own, yet belongs to the step.
RUNNING: ContextVar[Running | None] = ContextVar("celery_cascade_running", default=None)


def current_attempt() -> Attempt | None:
    """The attempt whose body is running in this thread or greenlet; None outside steps."""
    running = RUNNING.get()
    return None if running is None else running.attempt


def running_as(task: Any) -> Running | None:
    """What runs now, if `task` itself is the step: not a task that the step calls, applies or publishes."""
    running = RUNNING.get()
    if running is None or running.request is not task.request_stack.top:
        return None
    return running
