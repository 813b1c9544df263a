"""What queued steps wait for while workers are alive: one that knows their task (D2, `worker_lost`).

Told from what the living workers' rows say and nothing else, so it is right at the moment it is shown, and gone as soon
as a worker that knows the task is there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from celery_cascade.cli.living import workers
from celery_cascade.cli.words import took
from celery_cascade.persistence.rows import Row, WorkerRow
from celery_cascade.persistence.unknown import UNKNOWN_TASK
from celery_cascade.states import StepStatus
from celery_cascade.tasks.runtime import Runtime


class Knowledge:
    """Which tasks the living workers know.

    Args:
        found: those that take messages.
    """

    def __init__(self, found: Iterable[WorkerRow]) -> None:
        self._workers = [(row, _names(row.tasks), _names(row.queues)) for row in found]

    def lacks(self, task: str) -> bool:
        """Whether there are workers, and none of them knows the task."""
        return bool(self._workers) and not any(_has(tasks, task) for _, tasks, _ in self._workers)

    def older(self, task: str) -> list[str]:
        """The workers that do not know a task although they share a queue with one that does: an older deploy."""
        knowing = [queues for _, tasks, queues in self._workers if _has(tasks, task)]
        return sorted(
            row.nodename
            for row, tasks, queues in self._workers
            if not _has(tasks, task) and any(_overlap(queues, others) for others in knowing)
        )

    def why(self, task: str, dropped: bool) -> str | None:
        """Why a queued step of this task waits; None if only for its turn."""
        if self.lacks(task):
            return f"no living worker knows task {task}"
        if dropped and self._workers:
            return f"{_who(self.older(task))} not know task {task}"
        return None


def _who(older: list[str]) -> str:
    if not older:
        return "the worker that got its message did"
    return f"worker {older[0]} does" if len(older) == 1 else f"workers {', '.join(older)} do"


def _names(told: str | None) -> frozenset[str] | None:
    return None if told is None else frozenset(json.loads(told))


def _has(names: frozenset[str] | None, name: str) -> bool:
    """Whether it is among them; what was not told is taken to be."""
    return names is None or name in names


def _overlap(one: frozenset[str] | None, other: frozenset[str] | None) -> bool:
    return one is None or other is None or bool(one & other)


class Lacking:
    """Why sessions wait, looked up once for all that are shown."""

    def __init__(self, runtime: Runtime, session_ids: Collection[str]) -> None:
        found = workers(runtime) if session_ids else []
        knowledge = Knowledge(found)
        self._why: dict[str, dict[str, str]] = {}
        for row in runtime.store.waiting_tasks(session_ids) if found else []:
            why = knowledge.why(row["task"], row["reason"] == UNKNOWN_TASK)
            if why is not None:
                self._why.setdefault(row["session_id"], {})[row["task"]] = f"{why}; {_again(row)}"

    def of_session(self, session_id: str) -> str | None:
        """Why a session waits, without when its message is sent again."""
        reasons = sorted(self._why.get(session_id, {}).values(), key=lambda why: not why.startswith("no living"))
        return reasons[0].partition(";")[0] if reasons else None

    def of_step(self, session_id: str, step: Mapping[str, Any]) -> str | None:
        """Why one of its steps waits."""
        return self._why.get(session_id, {}).get(step["task"]) if step["status"] == StepStatus.QUEUED else None


def _again(row: Row) -> str:
    return f"sent again in {took(max(0.0, float(row['wait'] or 0.0)))}"
