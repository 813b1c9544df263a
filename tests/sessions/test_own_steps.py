"""A worker that looks for the steps of dead workers is not one of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from celery_cascade.persistence.rows import StepKey, WorkerRow
from celery_cascade.persistence.store import Store
from celery_cascade.tasks import recovery
from sessions.kit import Kit


def test_a_worker_does_not_take_its_own_steps_because_the_stores_clock_was_set_forward(kit: Kit) -> None:
    """R134: found by simulation. Its last beat looks old until the next one; the step runs, and would run twice."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    _ = kit.runtime.store_id
    kit.runtime._store = Store(kit.store.database, clock=lambda: now[0])
    for name in ("mine", "other"):
        kit.store.add_worker(WorkerRow(id=name, nodename=name, host="elsewhere", pid=1))
    session = kit.start("a")
    claimed = kit.store.claim(StepKey(session.id, "a"), attempt=1, token="t", worker="mine", runner="1.1")
    now[0] += timedelta(seconds=60)

    kit.runtime._worker_id = "mine"
    ours = recovery.recover(kit.runtime, witness=True)
    kit.runtime._worker_id = "other"
    theirs = recovery.recover(kit.runtime, witness=True)

    assert claimed is not None
    assert (ours.released, theirs.released) == (0, 1)
