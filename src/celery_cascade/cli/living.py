"""Who is there to run things, and which sessions nobody runs (D2)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from celery_cascade.cli.words import took
from celery_cascade.definition.plan import Plan
from celery_cascade.persistence.rows import WorkerRow
from celery_cascade.sessions.attendance import HERE, Attendance, living, workers
from celery_cascade.tasks.runtime import Runtime

__all__ = ["HERE", "Attendance", "Lack", "lack_of", "living", "nobody", "workers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Why nobody would run a session.

    Args:
        task: of a step that no living worker can run; None = there is no worker at all.
        queue: the queue that no worker which knows the task consumes; None = none knows the task.
        consume: the queues that a worker must be told to consume; empty = those that it consumes by itself.
    """

    task: str | None = None
    queue: str | None = None
    consume: tuple[str, ...] = ()


def lack_of(runtime: Runtime, plan: Plan, found: Collection[WorkerRow]) -> Lack | None:
    """What these workers lack to run every step of a plan, as far as their rows tell; None if nothing."""
    queues = {step.id: runtime.publisher.queue_of(step) for step in plan.steps.values()}
    consume = _to_be_told(runtime.app, [queue for queue in queues.values() if queue is not None])
    if not found:
        return Lack(consume=consume)
    for step in plan.steps.values():
        knowing = [row for row in found if _among(step.task, row.tasks)]
        if not knowing:
            return Lack(task=step.task, consume=consume)
        queue = queues[step.id]
        if queue is not None and not any(_among(queue, row.queues) for row in knowing):
            return Lack(task=step.task, queue=queue, consume=(queue,))
    return None


def _among(name: str, told: str | None) -> bool:
    """Whether a worker told so; True if it did not tell anything."""
    return told is None or name in json.loads(told)


def _to_be_told(app: Any, queues: list[str]) -> tuple[str, ...]:
    """The queues to start a worker with, if one that is told nothing would not consume them all."""
    own = {queue.name for queue in app.conf.task_queues or ()} or {app.conf.task_default_queue}
    return () if set(queues) <= own else tuple(dict.fromkeys(queues))


def nobody(attendance: Attendance, row: Mapping[str, Any]) -> str | None:
    """`no living worker for 41 s`, if that is why an active session stands still."""
    silence = attendance.alone_for(row)
    if silence is None:
        return None
    return f"no living worker for {took(round(silence)) if silence >= 10 else f'{silence:.0f} s'}"
