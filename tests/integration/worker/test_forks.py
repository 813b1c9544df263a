"""The main process forks while its threads speak to the store and to the broker (DESIGN.md section 3, Processes).

A child is killed in the middle of a task. One that is killed while it waits for its next task may hold the lock of the
pool's queue; with a broker without an event loop, Celery's pool is then stuck for ever (tried with bare Celery 5.7).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from support.cases import DIAMOND, until
from support.cluster import Project, wait_for
from support.stacks import Stack, parts

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Some hundred times as often as by default.
FAST = {
    "cascade_heartbeat_interval": 0.02,
    "cascade_heartbeat_timeout": 5,
    "cascade_timer_interval": 0.02,
    "cascade_orphan_interval": 0.02,
}
CHILDREN = 20
#: Where there is an event loop, Celery collects garbage before each fork, which takes it a quarter of a second.
KILLS = {"embedded": 100, "redis": 40, "rabbitmq": 40}
SUICIDE = """
@app.task(ignore_result=True)
def suicide():
    with open(HERE / "killed.log", "a") as file:
        file.write(f"{os.getpid()}\\n")
    os.kill(os.getpid(), 9)
"""


#: A lock of somebody else's library, held while the worker's own thread sends; and what tells of a fork.
LOCK = """
import threading
from celery.signals import before_task_publish

LOCK = threading.Lock()
os.register_at_fork(before=lambda: (HERE / "forking").touch())

@before_task_publish.connect
def locked(**_):
    with LOCK:
        if threading.current_thread().name == "cascade-rounds":
            (HERE / "held").touch()
            while not (HERE / "release").exists():
                time.sleep(0.01)
"""
RETRIED = """\
cascade: c
steps:
  - {id: a, task: proj.fail, retry: {max_attempts: 2, delay: 0.1s}}
  - {id: b, task: proj.work, with: [2]}
"""


@pytest.mark.broker_server  # with an event loop a killed child that is idle does no harm to Celery's own pool
def test_a_child_that_is_forked_while_a_thread_sends_does_not_inherit_its_locks(
    project: Callable[..., Project],
) -> None:
    """Else it hangs when it sends its first message: seen on kombu's own locks and on those of cached properties."""
    shop = project()
    with (shop.folder / "proj.py").open("a") as file:
        file.write(LOCK)
    worker = shop.worker("-P", "prefork", "-c", "1")
    shop.start(shop.file(RETRIED), "s1")
    wait_for((shop.folder / "held").exists, "the message of the retry to be under way")
    (shop.folder / "forking").unlink()
    for child in worker.container.children():
        os.kill(child, signal.SIGKILL)
    wait_for((shop.folder / "forking").exists, "the pool to replace its children")
    (shop.folder / "release").touch()
    assert until(shop, "s1", seconds=20)["output"] == 2


def test_many_killed_children_under_fast_heartbeats_leave_a_worker_that_works(
    project: Callable[..., Project], stack: Stack
) -> None:
    kills = KILLS[parts(stack.name).broker]
    shop = project(**FAST)
    with (shop.folder / "proj.py").open("a") as file:
        file.write(SUICIDE)
    log = shop.folder / "killed.log"
    log.touch()
    shop.worker("-P", "prefork", "-c", str(CHILDREN))
    shop.python(f"import proj; [proj.suicide.delay() for _ in range({kills})]")
    # At least: a child may die before the main process has acknowledged its message, which Celery then hands out again.
    wait_for(lambda: len(log.read_text().split()) >= kills, f"{kills} children to be killed", 200)
    killed = log.read_text().split()
    assert len(set(killed)) == len(killed)
    shop.let_go()
    shop.start(shop.file(DIAMOND), "s1", {"order_id": 7})
    assert until(shop, "s1", seconds=30)["output"] == ["left", 7]
    if shop.database.family == "sqlite":
        with shop.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
