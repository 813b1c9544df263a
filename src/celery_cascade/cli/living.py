"""Who is there to run things, and which sessions nobody runs (D2)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from celery_cascade.cli.words import took
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


def unknown_to(found: Collection[WorkerRow], tasks: Collection[str]) -> list[str]:
    """Of these tasks, those that none of the workers knows. Empty if a worker did not say what it knows."""
    known: set[str] = set()
    for row in found:
        if row.tasks is None:
            return []
        known.update(json.loads(row.tasks))
    return sorted(set(tasks) - known) if found else []


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
