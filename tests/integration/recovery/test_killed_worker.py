"""The promise: a killed worker loses nothing, and no finished step runs twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.cases import DIAMOND, QUICK, alone, until
from support.cluster import Project, wait_for
from support.stacks import Stack, flush

pytestmark = pytest.mark.integration


def test_a_worker_killed_in_mid_session_and_restarted_finishes_it(project: Callable[..., Project]) -> None:
    """R69, R127, R157: between the kill and the end there is no human command and no Beat."""
    shop = project()
    path = shop.file(DIAMOND)
    worker = shop.worker()
    shop.start(path, "s1", {"order_id": 7})
    alone(shop, "s1", "slow")
    worker.kill("SIGKILL")
    assert shop.show("s1")["status"] == "active"
    shop.let_go()
    worker.restart()
    done = until(shop, "s1")
    assert done["output"] == ["left", 7]
    assert sorted(shop.runs("s1")) == ["first", "join", "last", "left", "right", "slow"]
    assert shop.runs("s1", "began") == ["slow", "slow"]  # the step that was running runs again
    steps = {step["step"]: step for step in done["steps"]}
    assert steps["slow"]["attempt"] == 2
    assert steps["slow"]["crashes"] == 1
    assert steps["first"]["attempt"] == 1


def test_a_second_worker_takes_over_within_the_heartbeat_timeout(project: Callable[..., Project]) -> None:
    """R127: nobody restarts the dead worker."""
    shop = project(**QUICK)
    path = shop.file(DIAMOND)
    first = shop.worker(name="one")
    shop.start(path, "s1", {"order_id": 7})
    alone(shop, "s1", "slow")
    shop.worker(name="two")
    first.kill("SIGKILL")
    shop.let_go()
    took = wait_for(lambda: shop.runs("s1", "began") == ["slow", "slow"], "the other worker to take over", 20)
    # The timeout, a look, and the resend for the case that Redis gave the first message to the dead worker's socket.
    assert took < 3 + 1 + 5 + 3, took
    assert until(shop, "s1")["output"] == ["left", 7]
    assert sorted(shop.runs("s1")) == ["first", "join", "last", "left", "right", "slow"]


def test_a_worker_told_to_stop_finishes_its_step_and_nothing_runs_twice(project: Callable[..., Project]) -> None:
    """R87: SIGTERM is Celery's warm shutdown."""
    shop = project()
    path = shop.file(DIAMOND)
    worker = shop.worker()
    shop.start(path, "s1", {"order_id": 7})
    wait_for(lambda: shop.runs("s1", "began") == ["slow"], "the slow step to run")
    worker.kill("SIGTERM")
    shop.let_go()
    worker.container.process.wait(20)
    worker.restart()
    done = until(shop, "s1")
    assert sorted(shop.runs("s1")) == ["first", "join", "last", "left", "right", "slow"]
    assert {step["attempt"] for step in done["steps"]} == {1}


def test_a_killed_pool_child_gives_its_step_back_without_any_restart(project: Callable[..., Project]) -> None:
    """R127: Celery alone would mark the task failed and acknowledge it."""
    shop = project()
    path = shop.file("cascade: c\nsteps:\n  - {id: a, task: proj.die_once, with: [1]}\n  - {id: b, task: proj.work}\n")
    shop.worker()
    shop.start(path, "s1")
    done = until(shop, "s1")
    assert shop.runs("s1") == ["a", "b"]
    assert done["steps"][0]["crashes"] == 1


def test_a_flushed_broker_heals_by_itself(project: Callable[..., Project], stack: Stack) -> None:
    """Rule 1: a message is a hint. The message of a queued step is gone; it is sent again."""
    shop = project(cascade_resend_after=2)
    path = shop.file(DIAMOND)
    shop.start(path, "s1", {"order_id": 7})
    assert flush(stack, shop.folder)
    shop.let_go()
    shop.worker()
    assert until(shop, "s1")["output"] == ["left", 7]
    assert sorted(shop.runs("s1")) == ["first", "join", "last", "left", "right", "slow"]


def test_a_start_killed_between_commit_and_publish_still_runs(project: Callable[..., Project]) -> None:
    """R7: definition and inputs are there before the first message, and recovery sends it."""
    shop = project(cascade_resend_after=2)
    path = shop.file(DIAMOND)
    code = (
        "import os\n"
        "from celery_cascade.tasks.publish import Publisher\n"
        "Publisher.send = lambda *a: os.kill(os.getpid(), 9)\n"
        "from proj import cascades\n"
        f"cascades.start({str(path)!r}, {{'order_id': 7}}, session_id='s1')\n"
    )
    assert shop.python(code, check=False).returncode == -9
    assert shop.show("s1")["status"] == "active"
    shop.let_go()
    shop.worker()
    assert until(shop, "s1")["output"] == ["left", 7]


def test_the_stored_definition_is_the_file_byte_for_byte(project: Callable[..., Project]) -> None:
    """R2, R7."""
    shop = project()
    path = shop.file(DIAMOND + "# kept \t\n\n")
    shop.start(path, "s1", {"order_id": 7})
    path.unlink()
    code = "import sys; from proj import cascades; sys.stdout.write(cascades.session('s1').definition.decode())"
    assert shop.python(code).stdout == DIAMOND + "# kept \t\n\n"
    assert shop.show("s1")["inputs"] == {"order_id": 7}
