"""The handlers of the worker's life, with a controller that only looks like Celery's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery import signals as celery_signals

from celery_cascade.app import Cascades
from celery_cascade.persistence.database import Database
from celery_cascade.tasks import guard, worker
from celery_cascade.tasks.runtime import WORKER_VARIABLE, Runtime


class Controller:
    """As far as `worker_init` has built it."""

    blueprint = None

    def __init__(self, app: Any, pool: str = "solo") -> None:
        self.app, self.pool_cls = app, pool
        self.hostname, self.concurrency, self.prefetch_multiplier = "n@h", 2, 4
        self.logging_set_up = False

    def setup_logging(self) -> None:
        self.logging_set_up = True


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Runtime]]:
    monkeypatch.delenv(WORKER_VARIABLE, raising=False)
    made: list[Runtime] = []

    def runtime(**settings: Any) -> Runtime:
        app = Celery("proj", set_as_current=False, broker="memory://")
        app.conf.update({"cascade_home": str(tmp_path), **settings})
        made.append(Cascades(app).runtime)
        return made[-1]

    yield runtime
    for one in made:
        worker._end(worker._WORKERS.pop(one.app, None))
        if one._store is not None:
            one.store.database.dispose()


def refused(controller: Controller, caplog: pytest.LogCaptureFixture) -> tuple[int, str]:
    """The exit code and what the log says."""
    with caplog.at_level(logging.CRITICAL, "celery_cascade"), pytest.raises(SystemExit) as stopped:
        celery_signals.worker_init.send(sender=controller)
    assert controller.logging_set_up
    return int(str(stopped.value.code)), caplog.text


def test_a_worker_enters_the_store_before_its_pool_starts_and_leaves_it_once(make):
    runtime = make()
    controller = Controller(runtime.app)
    celery_signals.worker_init.send(sender=controller)
    (row,) = runtime.store.running_workers()
    assert (row.nodename, row.pool, row.capacity) == ("n@h", "solo", 10)
    assert "celery_cascade.resume" in row.tasks
    assert runtime.worker_id == row.id
    celery_signals.worker_shutdown.send(sender=controller)
    celery_signals.worker_shutdown.send(sender=controller)
    assert runtime.store.running_workers() == []
    assert runtime.worker_id is None


def test_ready_starts_two_threads_and_shutdown_ends_them(make):
    runtime = make()
    controller = Controller(runtime.app)
    celery_signals.worker_init.send(sender=controller)
    incarnation = worker._WORKERS[runtime.app]
    celery_signals.worker_ready.send(sender=SimpleSender(runtime.app, controller))
    threads = [incarnation._heartbeat._thread, incarnation._rounds._thread]
    assert all(thread.is_alive() for thread in threads)
    celery_signals.worker_shutdown.send(sender=controller)
    assert not any(thread.is_alive() for thread in threads)


class SimpleSender:
    def __init__(self, app: Any, controller: Any) -> None:
        self.app, self.controller = app, controller


def test_another_app_is_left_alone(make):
    make()
    other = Celery("other", set_as_current=False)
    celery_signals.worker_init.send(sender=Controller(other))
    celery_signals.worker_ready.send(sender=SimpleSender(other, None))
    celery_signals.worker_shutdown.send(sender=Controller(other))


def test_a_store_without_tables_stops_the_worker_with_its_cure(make, sqlite_url, caplog):
    code, log = refused(Controller(make(cascade_database_url=sqlite_url).app), caplog)
    assert code == 7
    assert "cascade migrate up" in log


def test_a_store_that_does_not_answer_stops_the_worker_after_a_while(make, caplog):
    url = "postgresql://nobody@127.0.0.1:1/none"
    code, log = refused(Controller(make(cascade_database_url=url, cascade_database_patience=0.01).app), caplog)
    assert code == 69
    assert "does not answer" in log


def test_an_unsafe_broker_stops_the_worker(make, caplog):
    code, log = refused(Controller(make(broker_url="filesystem://").app), caplog)
    assert code == 2
    assert "embedded()" in log


def test_a_green_pool_stops_the_worker(make, caplog):
    code, log = refused(Controller(make().app, "gevent"), caplog)
    assert code == 2
    assert "not yet supported" in log


def test_a_wrong_setting_stops_the_worker(make, caplog):
    code, log = refused(Controller(make(cascade_hearbeat_interval=1).app), caplog)
    assert code == 2
    assert "did you mean cascade_heartbeat_interval" in log


def test_a_task_without_the_guard_stops_the_worker_at_its_start_and_when_it_is_ready(make, monkeypatch, caplog):
    runtime = make()
    controller = Controller(runtime.app)
    celery_signals.worker_init.send(sender=controller)
    monkeypatch.setattr(guard, "unguarded", lambda app: ["shop.late"])
    with pytest.raises(SystemExit):
        celery_signals.worker_ready.send(sender=SimpleSender(runtime.app, controller))
    worker._end(worker._WORKERS.pop(runtime.app))
    code, log = refused(Controller(runtime.app), caplog)
    assert code == 2
    assert "shop.late" in log


def test_a_bug_of_ours_stops_the_worker_too(make, monkeypatch, caplog):
    """Celery would log it, and the worker would claim steps in nobody's name."""
    runtime = make()
    monkeypatch.setattr(guard, "unguarded", lambda app: 1 / 0)
    code, log = refused(Controller(runtime.app), caplog)
    assert code == 1
    assert "ZeroDivisionError" in log


def test_goodbye_gives_back_what_nobody_runs_any_more(make, monkeypatch):
    runtime = make()
    controller = Controller(runtime.app)
    celery_signals.worker_init.send(sender=controller)
    audited: list[Any] = []
    monkeypatch.setattr("celery_cascade.tasks.recovery.audit", lambda runtime, is_live: audited.append(runtime))
    celery_signals.worker_shutdown.send(sender=controller)
    assert audited == [runtime]


def test_the_goodbye_does_not_fail_without_a_database(make, monkeypatch, caplog):
    runtime = make()
    controller = Controller(runtime.app)
    celery_signals.worker_init.send(sender=controller)

    def away(*_: Any, **__: Any) -> Any:
        from celery_cascade.errors import StoreUnavailable

        raise StoreUnavailable("the store does not answer")

    monkeypatch.setattr(Database, "transaction", away)
    celery_signals.worker_shutdown.send(sender=controller)
    assert "could not say goodbye" in caplog.text
    assert runtime.worker_id is None


def test_shutting_down_says_what_becomes_of_the_steps(make, caplog):
    runtime = make()
    celery_signals.worker_init.send(sender=Controller(runtime.app))
    with caplog.at_level(logging.INFO, "celery_cascade"):
        celery_signals.worker_shutting_down.send(sender="n@h", sig="SIGTERM", how="Warm", exitcode=0)
        celery_signals.worker_shutting_down.send(sender="n@h", sig="SIGQUIT", how="Cold", exitcode=0)
        celery_signals.worker_shutting_down.send(sender="another@h", sig="SIGTERM", how="Warm", exitcode=0)
    assert [SimpleNamespace(text=text).text.split(":")[0] for text in caplog.messages] == [
        "[cascade] warm shutdown",
        "[cascade] cold shutdown",
    ]
