"""What a signal in the main process buys is promptness: with the audit put off, only the signal can have done it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from celery_cascade.persistence.tables import attempts, steps
from support.cases import QUICK, until
from support.cluster import Project, wait_for

pytestmark = pytest.mark.integration

HOLD = (
    "cascade: c\nsteps:\n  - {{id: a, task: proj.hold, with: [1]{more}}}\n  - {{id: b, task: proj.work, with: [2]}}\n"
)
#: The audit and the look for orphans would find everything in the end: not within a test.
NO_AUDIT = {"cascade_orphan_interval": 600}


def begun(shop: Project, more: str = "") -> int:
    """A session whose step runs; the process that runs it."""
    shop.start(shop.file(HOLD.format(more=more)), "s1")
    wait_for(lambda: "a" in shop.runs("s1", "began"), "the step to begin")  # on a slow machine more than once by now
    line = (shop.folder / "runs.log").read_text().split()
    return int(line[4])


def kinds(shop: Project) -> list[str]:
    with shop.database.read() as connection:
        return list(connection.execute(sa.select(attempts.c.kind).order_by(attempts.c.attempt)).scalars())


def counts(shop: Project) -> tuple[int, int]:
    """Failures and crashes of the step."""
    with shop.database.read() as connection:
        row = connection.execute(sa.select(steps.c.failures, steps.c.crashes).where(steps.c.step == "a")).one()
    return row.failures, row.crashes


@pytest.mark.broker_server  # a broker with an event loop: there Celery tells of a lost child at once, else after 10 s
def test_a_killed_child_is_known_by_its_signal(project: Callable[..., Project]) -> None:
    shop = project(**NO_AUDIT)
    shop.worker()
    os.kill(begun(shop), signal.SIGKILL)
    shop.let_go()
    assert until(shop, "s1", seconds=20)["output"] == 2
    assert kinds(shop) == ["crash"]
    assert counts(shop) == (0, 1)


@pytest.mark.broker_server  # a broker with an event loop: there Celery tells of a lost child at once, else after 10 s
def test_a_hard_time_limit_is_a_timeout_and_no_crash(project: Callable[..., Project]) -> None:
    shop = project(**NO_AUDIT)
    shop.worker()
    begun(shop, ", timeout: 1s, retry: {max_attempts: 2, delay: 0.1s}")
    assert until(shop, "s1", "failed", seconds=20)
    assert kinds(shop) == ["timeout", "timeout"]
    assert counts(shop) == (2, 0)


@pytest.mark.broker_server  # a broker with an event loop: there Celery tells of a lost child at once, else after 10 s
def test_a_cold_shutdown_gives_the_step_to_the_next_worker(project: Callable[..., Project]) -> None:
    shop = project(**NO_AUDIT)
    worker = shop.worker()
    begun(shop)
    worker.kill("SIGQUIT")
    worker.container.process.wait(20)
    with shop.database.read() as connection:
        assert connection.execute(sa.select(steps.c.status).where(steps.c.step == "a")).scalar() == "queued"
    shop.let_go()
    shop.worker(name="two")
    assert until(shop, "s1", seconds=20)["output"] == 2
    assert shop.runs("s1") == ["a", "b"]


BROKEN = """
from celery_cascade.tasks import signals
import celery.signals
for name, handler in signals.HANDLERS.items():
    getattr(celery.signals, name).disconnect(handler, dispatch_uid=f"celery_cascade.{name}")
    if %(raises)r:
        def broken(**_): raise RuntimeError("a handler of ours is broken")
        getattr(celery.signals, name).connect(broken, weak=False)
"""


@pytest.mark.parametrize("raises", [False, True], ids=["disconnected", "raising"])
def test_no_guarantee_rests_on_a_handler(project: Callable[..., Project], raises: bool) -> None:
    """R152: what they would have told, the audit finds."""
    shop = project(**QUICK)
    with (shop.folder / "proj.py").open("a") as file:
        file.write(BROKEN % {"raises": raises})
    shop.worker()
    os.kill(begun(shop), signal.SIGKILL)
    shop.let_go()
    assert until(shop, "s1", seconds=30)["output"] == 2
    assert shop.runs("s1") == ["a", "b"]
    assert shop.runs("s1", "began") == ["a", "a"]


def test_a_task_that_the_worker_does_not_know_is_told_and_the_step_waits(project: Callable[..., Project]) -> None:
    shop = project(**QUICK)
    text: Any = (shop.folder / "proj.py").read_text()
    path = shop.file("cascade: c\nsteps:\n  - {id: a, task: proj.work, with: [1]}\n")
    shop.start(path, "s1")
    (shop.folder / "proj.py").write_text(text.replace("def work(", "def other("))
    worker = shop.worker()
    worker.assert_log_exists("does not know the task 'proj.work'; its message is sent again", timeout=20)
    assert shop.show("s1")["status"] == "active"
