"""The main process forks while its threads speak to the store and to the broker (DESIGN.md section 3, Processes).

A child is killed in the middle of a task. One that is killed while it waits for its next task may hold the lock of the
pool's queue; with a broker without an event loop, Celery's pool is then stuck for ever (tried with bare Celery 5.7).
"""

from __future__ import annotations

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
KILLS = {"embedded": 200, "redis": 60, "rabbitmq": 60}
SUICIDE = """
@app.task(ignore_result=True)
def suicide():
    with open(HERE / "killed.log", "a") as file:
        file.write(f"{os.getpid()}\\n")
    os.kill(os.getpid(), 9)
"""


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
