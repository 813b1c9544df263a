from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_cascade.config import CascadeConfig
from celery_cascade.embedded import broker_file, embedded, home_of, prune_spent, refuse_unsafe_broker
from celery_cascade.embedded.transport import PROCESS
from celery_cascade.errors import ConfigError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def app(tmp_path: Path):
    app = Celery("proj", set_as_current=False, **embedded(tmp_path / "home"))
    yield app
    app.pool.force_close_all()
    for engine, _ in PROCESS.engines.values():
        engine.dispose()
    PROCESS.engines.clear()


def put(app: Celery, *names: str) -> None:
    with app.connection_for_write() as connection, connection.SimpleQueue("q") as queue:
        for name in names:
            queue.put({"name": name})


def take(app: Celery, count: int) -> list[str]:
    found = []
    with app.connection_for_read() as connection, connection.SimpleQueue("q") as queue:
        for _ in range(count):
            message = queue.get(timeout=5)
            found.append(message.payload["name"])
            message.ack()
    return found


def rows(app: Celery) -> list[int]:
    file = broker_file(app)
    assert file is not None
    with closing(sqlite3.connect(file)) as connection:
        return [visible for (visible,) in connection.execute("SELECT visible FROM kombu_message")]


PUT = """
import sys
from celery import Celery
from celery_cascade.embedded import embedded
app = Celery("proj", **embedded(sys.argv[1]))
with app.connection_for_write() as connection, connection.SimpleQueue("q") as queue:
    for name in sys.argv[2:]:
        queue.put({"name": name})
"""


def other_process(folder: Path, *names: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PUT, str(folder), *names],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_message_goes_from_one_process_to_another_without_a_server_or_a_warning(app, tmp_path):
    with other_process(tmp_path / "home", "a", "b") as other:
        assert take(app, 2) == ["a", "b"]
        assert other.communicate()[1] == ""
        assert other.returncode == 0
    assert (tmp_path / "home" / "broker.sqlite").stat().st_size


def test_several_processes_may_be_the_first(app, tmp_path):
    """Each of them makes the file and its tables."""
    others = [other_process(tmp_path / "home", f"m{number}") for number in range(4)]
    errors = [other.communicate()[1] for other in others]
    assert errors == [""] * 4
    assert sorted(take(app, 4)) == ["m0", "m1", "m2", "m3"]


def test_the_folder_is_made_on_first_use_only(tmp_path):
    settings = embedded(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert settings["cascade_home"] == str(tmp_path / "new")


def test_the_settings_can_be_pickled_for_spawned_processes(app):
    changes = pickle.loads(pickle.dumps(app)).conf
    assert changes.broker_url == app.conf.broker_url
    assert changes.cascade_home == app.conf.cascade_home


def test_kombus_warning_is_silenced_here_and_nowhere_else(app):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        put(app, "a")
        assert take(app, 1) == ["a"]


def test_spent_rows_go_and_waiting_ones_stay(app):
    put(app, *"abc")
    assert take(app, 2) == ["a", "b"]
    assert sorted(rows(app)) == [0, 0, 1]
    assert prune_spent(app) == 2
    assert rows(app) == [1]
    assert take(app, 1) == ["c"]


def test_pruning_another_broker_or_one_that_was_never_used_does_nothing(app, tmp_path):
    assert prune_spent(Celery("other", set_as_current=False, broker="memory://")) == 0
    assert prune_spent(app) == 0
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "broker.sqlite").touch()
    assert prune_spent(app) == 0


def test_many_spent_rows_go_in_batches(app, monkeypatch):
    monkeypatch.setattr("celery_cascade.embedded.BATCH", 2)
    put(app, *"abcde")
    take(app, 5)
    assert prune_spent(app) == 5


def test_the_file_does_not_grow_with_what_was_delivered(app):
    """R120: spent rows go, and their room is used again."""

    def after_round() -> int:
        put(app, *(f"{number} {'x' * 5000}" for number in range(20)))
        take(app, 20)
        assert prune_spent(app) == 20
        with closing(sqlite3.connect(broker_file(app))) as connection:
            return connection.execute("PRAGMA page_count").fetchone()[0]

    first = after_round()
    assert [after_round() for _ in range(3)][-1] <= 1.2 * first


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  the parent sees the code
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="no /proc/locks here")
def test_a_forked_child_has_connections_and_locks_of_its_own(app):
    """A child that inherited an open connection would hold no locks: see test_forking.py."""
    put(app, "from the parent")  # leaves a connection in the pool

    def child() -> None:
        app._after_fork()
        put(app, "from the child")
        (engine, _), *_ = PROCESS.engines.values()
        with engine.connect():
            lines = Path("/proc/locks").read_text().splitlines()
            assert any(f" {os.getpid()} " in line for line in lines)

    assert in_child(child) == 0
    assert take(app, 2) == ["from the parent", "from the child"]


def test_filesystem_brokers_are_refused_with_the_way_out():
    for settings in (
        {"broker_url": "filesystem://"},
        {"broker_url": ["redis://x", "filesystem://"]},
        {"broker_read_url": "filesystem:///x"},
    ):
        app = Celery("proj", set_as_current=False)
        app.conf.update(settings)
        with pytest.raises(ConfigError, match="half-written") as found:
            refuse_unsafe_broker(app)
        assert "embedded()" in str(found.value)


def test_other_brokers_are_not(app):
    refuse_unsafe_broker(app)
    for url in ("redis://localhost", "amqp://", "memory://", None):
        other: Any = Celery("proj", set_as_current=False, broker=url)
        refuse_unsafe_broker(other)


def test_the_home_is_beside_the_module_whatever_the_working_directory(tmp_path, monkeypatch):
    module = tmp_path / "shop" / "proj.py"
    module.parent.mkdir()
    module.touch()
    monkeypatch.chdir("/")
    app = Celery("proj", set_as_current=False)
    assert home_of(app, CascadeConfig(), str(module)) == module.parent / ".cascade"
    assert home_of(app, CascadeConfig(home="data"), str(module)) == module.parent / "data"
    assert home_of(app, CascadeConfig(home="/var/data"), str(module)) == Path("/var/data")


def test_without_a_module_the_home_is_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert home_of(Celery("nowhere", set_as_current=False), CascadeConfig(), None) == tmp_path / ".cascade"


def test_embedded_is_anchored_beside_its_caller_or_where_the_environment_says(monkeypatch):
    monkeypatch.delenv("CELERY_CASCADE_HOME", raising=False)
    monkeypatch.chdir("/")
    assert embedded()["cascade_home"] == str(Path(__file__).parent / ".cascade")
    monkeypatch.setenv("CELERY_CASCADE_HOME", "/var/cascade")
    assert embedded()["cascade_home"] == "/var/cascade"
    assert embedded()["broker_url"] == "cascade-sqlite+sqlite:////var/cascade/broker.sqlite"


def test_a_folder_with_odd_characters(tmp_path):
    app = Celery("proj", set_as_current=False, **embedded(tmp_path / "my folder; 100% ümlaut#?"))
    put(app, "a")
    assert take(app, 1) == ["a"]
    assert prune_spent(app) == 1
    PROCESS.engines.popitem()[1][0].dispose()
