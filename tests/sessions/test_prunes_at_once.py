"""R141: two prunes at once beside a load. Counts add up, the load is unharmed, nobody waits for ever."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Event
from typing import Any

from sqlalchemy import insert, select

from celery_cascade.persistence import tables
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import Checkpoint, NewStep, StepKey
from celery_cascade.persistence.store import Store
from contract.kit import new_session
from sessions.kit import Kit

OLD = 400
PRUNES = 2
LOADS = 2
BATCH = 20


def fill(store: Store, cascade_id: str) -> set[str]:
    """Sessions that ended long ago."""
    at = datetime.now(UTC) - timedelta(days=90)
    ids = [str(uuid.uuid4()) for _ in range(OLD)]
    common = {"created_at": at, "updated_at": at, "finished_at": at}
    rows: list[tuple[Any, list[dict[str, Any]]]] = [
        (
            tables.sessions,
            [{"session_id": i, "cascade_id": cascade_id, "root_session_id": i, "created_at": at} for i in ids],
        ),
        (tables.heads, [{"id": i, "session_id": i, "mode": "cascade", "status": "completed", **common} for i in ids]),
        (
            tables.steps,
            [
                {"session_id": i, "step": step, "item": -1, "status": "succeeded", "finished_at": at}
                for i in ids
                for step in ("a", "b", "c")
            ],
        ),
    ]

    def work(conn: Any) -> None:
        for table, values in rows:
            conn.execute(insert(table), values)

    store.database.transaction(work)
    return set(ids)


@contextmanager
def own_store(url: str) -> Iterator[Store]:
    """As another process has it: an engine of its own."""
    database = Database(url)
    try:
        yield Store(database)
    finally:
        database.dispose()


def load(url: str, gate: Barrier, over: Event) -> tuple[list[str], float]:
    """Start and run sessions until the prunes are done; their ids, and the longest that one took."""
    made: list[str] = []
    longest = 0.0
    with own_store(url) as store:
        gate.wait()
        while not over.is_set() or len(made) < 5:
            began = time.monotonic()
            made.append(one_session(store))
            longest = max(longest, time.monotonic() - began)
    return made, longest


def one_session(store: Store) -> str:
    new = new_session(cascade_id="load", digest="e" * 64)
    store.start(new, [NewStep(step="a", status="queued", task="t", call='{"args":[],"kwargs":{}}')])
    key, token = StepKey(new.session_id, "a"), uuid.uuid4().hex
    assert store.claim(key, attempt=1, token=token, worker="w", runner="r") is not None
    store.checkpoint(Checkpoint(key=key, token=token, status="succeeded", output="1", phase="a", closed=1))
    assert store.settle(new.session_id, output="1") == "completed"
    return new.session_id


def test_two_prunes_at_once_beside_a_load(make_kit: Callable[..., Kit], store_url: str, tmp_path: Path) -> None:
    """R141, R118: what both report is what is gone; the load loses nothing and sees no error."""
    cascade_id = f"old-{uuid.uuid4().hex[:8]}"
    settings: dict[str, Any] = {"cascade_retention": {"keep_last": 0, "batch": BATCH}}
    kits = [make_kit(store_url, **settings) for _ in range(PRUNES)]
    store = kits[0].store
    old = fill(store, cascade_id)
    gate, over = Barrier(PRUNES + LOADS), Event()

    def prune(kit: Kit) -> int:
        _ = kit.store
        gate.wait()
        return kit.cascades.prune(cascade=cascade_id).deleted

    began = time.monotonic()
    with ThreadPoolExecutor(PRUNES + LOADS) as pool:
        loads = [pool.submit(load, store_url, gate, over) for _ in range(LOADS)]
        try:
            deleted = [one.result(timeout=60) for one in [pool.submit(prune, kit) for kit in kits]]
        finally:
            over.set()
        made = [one.result(timeout=60) for one in loads]
    took = time.monotonic() - began

    assert sum(deleted) == len(old), deleted
    with store.database.read() as conn:
        left = set(conn.execute(select(tables.sessions.c.session_id)).scalars())
        steps = set(conn.execute(select(tables.steps.c.session_id)).scalars())
    assert not left & old
    assert not steps & old
    for ids, longest in made:
        assert set(ids) <= left, "a session of the load is gone"
        assert longest < 30, f"a session of the load waited {longest:.1f} s"
    assert took < 60
