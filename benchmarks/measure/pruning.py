"""What a prune costs in a store that has grown, and that it costs no more when there is nothing left to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery
from sqlalchemy import insert

from celery_cascade import Cascades
from celery_cascade.persistence import migrate, tables
from celery_cascade.persistence.database import Database
from measure import servers
from measure.options import Options
from measure.tables import Table

CASCADES = 50  #: half of all sessions belong to the first
DAYS = 30  #: over which the sessions have ended
CHUNK = 5000


def measure(options: Options) -> Table:
    sessions = 20_000 if options.quick else 200_000
    found: dict[str, dict[str, Any]] = {}
    with _stores(options) as stores:
        for name, url in stores:
            _fill(url, sessions)
            options.say(f"{name}: {sessions:,} finished sessions are there")
            found[name] = _prune(url)
            options.say(f"{name}: {found[name]}")
    rows = [
        [
            name,
            f"{one['dry_run_s']:.1f}",
            f"{one['deleted']:,}",
            f"{one['prune_s']:.1f}",
            f"{1000 * one['longest_s']:.0f}",
            f"{one['nothing_s']:.2f}",
        ]
        for name, one in found.items()
    ]
    return Table(
        title=f"A prune among {sessions:,} finished sessions of {CASCADES} cascades",
        headings=["", "dry run s", "deleted", "prune s", "longest transaction ms", "second prune s"],
        rows=rows,
        notes=["two steps a session, batches of 1,000; the second prune finds nothing to delete"],
        raw=found,
    )


@contextmanager
def _stores(options: Options) -> Iterator[list[tuple[str, str]]]:
    folder = options.folder("pruning")
    with servers.fresh_postgresql() as postgresql:
        yield [("SQLite", f"sqlite:///{folder / 'store.sqlite'}"), ("PostgreSQL", postgresql)]


def _fill(url: str, sessions: int) -> None:
    database = Database(url)
    migrate.upgrade(database)
    now = datetime.now(UTC)
    for first in range(0, sessions, CHUNK):
        numbers = range(first, min(first + CHUNK, sessions))
        ended = {n: now - timedelta(days=DAYS) * (sessions - n) / sessions for n in numbers}
        _insert(database, numbers, ended)
    if database.family == "postgresql":
        servers.sql(url, "ANALYZE")  # as autovacuum does in its own time
    database.dispose()


def _insert(database: Database, numbers: range, ended: dict[int, datetime]) -> None:
    sessions = [
        {
            "session_id": f"session-{n:010}",
            "cascade_id": f"cascade-{n % CASCADES if n % 2 else 0}",
            "root_session_id": f"session-{n:010}",
            "created_at": ended[n],
        }
        for n in numbers
    ]
    heads = [
        {
            "id": f"head-{n:010}",
            "session_id": f"session-{n:010}",
            "mode": "cascade",
            "status": "failed" if n % 20 == 7 else "completed",
            "total_steps": 2,
            "created_at": ended[n],
            "updated_at": ended[n],
            "finished_at": ended[n],
        }
        for n in numbers
    ]
    steps = [
        {
            "session_id": f"session-{n:010}",
            "step": step,
            "item": -1,
            "status": "succeeded",
            "call": '{"args":[],"kwargs":{}}',
            "output": '"' + "x" * 200 + '"',
            "finished_at": ended[n],
        }
        for n in numbers
        for step in ("one", "two")
    ]

    def work(connection: Any) -> None:
        connection.execute(insert(tables.sessions), sessions)
        connection.execute(insert(tables.heads), heads)
        connection.execute(insert(tables.steps), steps)

    database.transaction(work)


def _prune(url: str) -> dict[str, Any]:
    app = Celery("bench", broker="memory://", set_as_current=False, cascade_database_url=url)
    cascades = Cascades(app)
    database = cascades.runtime.store.database
    longest = 0.0
    transaction = database.transaction

    def timed(work: Any) -> Any:
        nonlocal longest
        began = time.perf_counter()
        try:
            return transaction(work)
        finally:
            longest = max(longest, time.perf_counter() - began)

    database.transaction = timed  # type: ignore[method-assign]
    found: dict[str, Any] = {}
    for name, dry_run in (("dry_run_s", True), ("prune_s", False), ("nothing_s", False)):
        began = time.perf_counter()
        report = cascades.prune(dry_run=dry_run)
        found[name] = time.perf_counter() - began
        if name == "prune_s":
            found |= {"deleted": report.deleted, "batches": report.batches}
    database.dispose()
    return found | {"longest_s": longest}
