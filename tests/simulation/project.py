"""What is made once in a process and used by all its histories: apps with their runtimes, and a migrated database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from celery import Celery

from celery_cascade import Cascades
from celery_cascade.config import CascadeConfig
from celery_cascade.crash_points import arm
from celery_cascade.definition.cascade import Source
from celery_cascade.definition.plan import Plan
from celery_cascade.persistence import database as database_module
from celery_cascade.persistence import migrate
from celery_cascade.persistence.models import Base
from celery_cascade.tasks import giving_back, identity, patience
from celery_cascade.tasks.runtime import OpenTokens, Recent, Runtime
from simulation.faulty import FaultyDatabase

HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT = 5.0, 15.0
TIMER_INTERVAL, ORPHAN_INTERVAL, RESEND_AFTER, PATIENCE = 2.0, 4.0, 30.0, 10.0
SETTINGS = {
    "cascade_database_url": "sqlite://",
    "cascade_heartbeat_interval": HEARTBEAT_INTERVAL,
    "cascade_heartbeat_timeout": HEARTBEAT_TIMEOUT,
    "cascade_timer_interval": TIMER_INTERVAL,
    "cascade_orphan_interval": ORPHAN_INTERVAL,
    "cascade_resend_after": RESEND_AFTER,
    "cascade_database_patience": PATIENCE,
}
MOST_WORKERS = 3


class Project:
    """The apps of three workers and a client, over one database."""

    def __init__(self) -> None:
        self.world: Any = None
        self._plans: dict[str, Plan] = {}
        self.database = FaultyDatabase("sqlite://")
        self.database.world = _Nobody()
        migrate.upgrade(self.database)
        self.store_id = migrate.store_id(self.database)
        self.runtimes = [self._runtime(number) for number in range(MOST_WORKERS + 1)]
        driver: Any = self.database._own.raw_connection().driver_connection
        self.sql = driver.execute
        driver.create_function("strftime", -1, self._strftime)

    def _runtime(self, number: int) -> Runtime:
        app = Celery(f"simulated{number}", broker="memory://", set_as_current=False)
        app.conf.update(SETTINGS)
        cascades = Cascades(app)

        @app.task(name="tasks.body", bind=True, shared=False, max_retries=None)
        def body(self: Any, *args: Any, **kwargs: Any) -> Any:
            return project().world.body(self, args, kwargs)

        runtime = cascades.runtime
        runtime._store_id = self.store_id
        runtime._made = self._plan  # type: ignore[method-assign]
        runtime.publisher._send = lambda step: self.world.publish(runtime, step)
        return runtime

    def _strftime(self, wanted: str, moment: str, *more: str | None) -> str | None:
        """The database's clock: asked by the statement itself, as in production, not by who is about to send it."""
        assert wanted == "%Y-%m-%d %H:%M:%f000", wanted
        if None in more:
            return None
        now: datetime = self.world.store_time() if moment == "now" else datetime.fromisoformat(moment)
        now += sum((timedelta(seconds=float(one.removesuffix(" seconds"))) for one in more if one), timedelta())
        return now.strftime("%Y-%m-%d %H:%M:%S.") + f"{now.microsecond // 1000:03d}000"

    def _plan(self, source: Source) -> Plan:
        """Made once: to read a definition takes longer than to play it. From where it is read is not spared."""
        if source.digest not in self._plans:
            self._plans[source.digest] = Runtime._made(self.runtimes[0], source)
        return self._plans[source.digest]

    def fresh(self, runtime: Runtime, worker_id: str | None) -> None:
        """The memory of a new process."""
        runtime._worker_id = worker_id
        runtime._sessions, runtime._plans = Recent(1000), Recent(200)
        runtime.tokens = OpenTokens()
        runtime.__dict__["runner_id"] = f"{worker_id}.1"

    def empty(self) -> None:
        self.database.world = _Nobody()
        with self.database.autocommit() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            for table in Base.metadata.tables.values():
                if table.name != "cascade_meta":
                    connection.exec_driver_sql(f"DELETE FROM {table.name}")
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")

    @contextmanager
    def playing(self, world: Any) -> Iterator[None]:
        """Inside, time, threads and the question who is dead are the world's."""
        self.empty()
        self.world = self.database.world = world
        clock = SimpleNamespace(monotonic=lambda: world.stage.now, sleep=world.sleep)
        even = SimpleNamespace(uniform=lambda low, high: (low + high) / 2)
        put = [
            (patience, "time", clock), (patience, "random", even),
            (database_module, "time", clock), (database_module, "random", even),
            (giving_back, "threading", SimpleNamespace(Thread=world.thread)),
            (identity, "gone_for_certain", world.gone_for_certain),
        ]  # fmt: skip
        before = [(module, name, getattr(module, name)) for module, name, _ in put]
        for module, name, value in put:
            setattr(module, name, value)
        arm(world.visit)
        try:
            yield
        finally:
            arm(None)
            for module, name, value in before:
                setattr(module, name, value)
            self.database.world = _Nobody()

    @property
    def config(self) -> CascadeConfig:
        return self.runtimes[0].config


class _Nobody:
    """No history is played: the database is what it is."""

    inside = False

    def at(self, label: str) -> None: ...

    def commit_fault(self) -> None: ...

    def store_is_away(self) -> bool:
        return False

    def committed(self, connection: Any) -> None: ...


@lru_cache(maxsize=1)
def project() -> Project:
    return Project()
