"""What `doctor` says of what runs, and of what should."""

from __future__ import annotations

from collections.abc import Collection

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.findings import Check
from celery_cascade.cli.lacking import Knowledge
from celery_cascade.cli.living import HERE
from celery_cascade.cli.words import counted, took
from celery_cascade.persistence.recoveries import Recoveries
from celery_cascade.persistence.rows import WorkerRow
from celery_cascade.persistence.unknown import UNKNOWN_TASK
from celery_cascade.tasks.runtime import Runtime

#: What the figures are about.
HOURS = 24
_NEWER = "Start a worker whose code has the task; what waits for it goes on by itself as soon as one is there"
_OLDER = "Restart the older worker with the new code; until then some messages reach it first and are sent again"


def tasks(runtime: Runtime, found: Collection[WorkerRow]) -> list[Check]:
    """Tasks that queued steps wait for and that workers do not know: a rolling deploy; none is no news."""
    knowledge = Knowledge([row for row in found if row.pool != HERE])
    waiting: dict[str, tuple[int, bool]] = {}
    for row in runtime.store.waiting_tasks():
        count, dropped = waiting.get(row["task"], (0, False))
        waiting[row["task"]] = (count + row["count"], dropped or row["reason"] == UNKNOWN_TASK)
    return [
        Check(
            name="task",
            message=f"{counted(count, 'queued step')} of task {task}: {why}",
            hint=_NEWER if knowledge.lacks(task) else _OLDER,
            state="warning",
        )
        for task, (count, dropped) in waiting.items()
        if (why := knowledge.why(task, dropped)) is not None
    ]


def recovery(runtime: Runtime, found: Collection[WorkerRow], caller: Caller) -> list[Check]:
    """How long crashed steps waited, how many late writers were refused, and whether anybody is left alone."""
    takers = any(row.pool != HERE for row in found)
    seen = runtime.store.recoveries(since=HOURS * 3600.0, alive=[row.id for row in found], takers=takers)
    cure = "A living worker takes them over within cascade_heartbeat_timeout; look again then"
    return [
        Check(
            name="recovery",
            message="; ".join([*_crashes(seen), *_late(seen), _ownerless(seen)]),
            hint="" if not seen.ownerless else cure if takers else f"Start a worker with: {caller.worker_command}",
            state="warning" if seen.ownerless else "ok",
            figures={
                "hours": HOURS,
                "resumed": len(seen.seconds),
                "median_seconds": seen.median,
                "worst_seconds": max(seen.seconds, default=None),
                "waiting": seen.waiting,
                "fenced": seen.fenced,
                "ownerless_sessions": seen.ownerless,
            },
        )
    ]


def _crashes(seen: Recoveries) -> list[str]:
    told = []
    if seen.seconds and seen.median is not None:
        times = f"after {took(seen.median)} in the middle, {took(max(seen.seconds))} at worst"
        told.append(f"{counted(len(seen.seconds), 'crashed attempt')} of the last {HOURS} h resumed {times}")
    if seen.waiting:
        told.append(f"{counted(seen.waiting, 'crashed attempt')} not resumed yet")
    return told or [f"no crashed step was resumed in the last {HOURS} h"]


def _late(seen: Recoveries) -> list[str]:
    return [f"{counted(seen.fenced, 'late writer')} refused"] if seen.fenced else []


def _ownerless(seen: Recoveries) -> str:
    if not seen.ownerless:
        return "no session without an owner"
    return f"{counted(seen.ownerless, 'active session')} without an owner"
