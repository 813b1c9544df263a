"""Who is there to run things, and which sessions nobody runs (D2)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery_cascade.cli.words import took
from celery_cascade.definition.plan import Plan
from celery_cascade.persistence.rows import WorkerRow
from celery_cascade.tasks import identity
from celery_cascade.tasks.runtime import Runtime

#: The pool of a process that runs one session by itself and takes no messages (`run --local`, `run_cascade`).
HERE = "here"


def living(runtime: Runtime) -> list[WorkerRow]:
    """Everybody who is alive as far as can be told: workers, and processes that run a session themselves."""
    mine = identity.me()
    timeout = runtime.config.heartbeat_timeout
    return [
        row
        for row in runtime.store.running_workers()
        if row.silent_for <= timeout and not identity.gone_for_certain(row, mine)
    ]


def workers(runtime: Runtime) -> list[WorkerRow]:
    """The living workers that take messages."""
    return [row for row in living(runtime) if row.pool != HERE]


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


class Attendance:
    """Who runs what, looked up once for a whole list."""

    def __init__(self, runtime: Runtime) -> None:
        alive = living(runtime)
        self._anybody = any(row.pool != HERE for row in alive)
        self._held = set() if self._anybody else runtime.store.held_by([row.id for row in alive])
        self._silence = None if self._anybody else runtime.store.last_sign_of_life()
        self._now = runtime.store.now()

    def nobody(self, row: Mapping[str, Any]) -> str | None:
        """`no living worker for 41 s`, if that is why an active session stands still."""
        if row["status"] != "active" or self._anybody or row["session_id"] in self._held:
            return None
        silence = self._silence
        if silence is None:  # there never was one
            created = row["created_at"]
            at = datetime.fromisoformat(created) if isinstance(created, str) else created
            silence = max(0.0, (self._now - at).total_seconds())
        return f"no living worker for {took(round(silence)) if silence >= 10 else f'{silence:.0f} s'}"
