"""Who is there to run things, and which sessions nobody runs (D2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

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


class Attendance:
    """Who runs what, looked up once for a whole list."""

    def __init__(self, runtime: Runtime) -> None:
        alive = living(runtime)
        self._anybody = any(row.pool != HERE for row in alive)
        self._held = set() if self._anybody else runtime.store.held_by([row.id for row in alive])
        self._silence = None if self._anybody else runtime.store.last_sign_of_life()
        self._now = runtime.store.now()

    def alone_for(self, row: Mapping[str, Any]) -> float | None:
        """For how many seconds nobody has been there to run an active session; None = somebody is, or it has ended."""
        if row["status"] != "active" or self._anybody or row["session_id"] in self._held:
            return None
        if self._silence is not None:
            return self._silence
        created = row["created_at"]  # there never was a worker
        at = datetime.fromisoformat(created) if isinstance(created, str) else created
        return 0.0 if at is None else max(0.0, (self._now - at).total_seconds())
