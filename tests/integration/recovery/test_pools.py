"""The same promise on every pool that is supported, and the reason where one is not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from support.cases import DIAMOND, QUICK, alone, until
from support.cluster import Project, wait_for

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("pool", [("-P", "threads", "-c", "2"), ("-P", "solo")], ids=["threads", "solo"])
def test_a_killed_worker_of_another_pool_loses_nothing_either(project: Callable[..., Project], pool) -> None:
    """R142: threads and solo run in the main process, so a kill takes everything at once."""
    shop = project(**QUICK)
    path = shop.file(DIAMOND)
    worker = shop.worker(*pool)
    shop.start(path, "s1", {"order_id": 7})
    alone(shop, "s1", "slow", one_by_one="solo" in pool)
    worker.kill("SIGKILL")
    shop.let_go()
    worker.restart()
    assert until(shop, "s1")["output"] == ["left", 7]
    assert sorted(shop.runs("s1")) == ["first", "join", "last", "left", "right", "slow"]
    assert shop.runs("s1", "began") == ["slow", "slow"]


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_step_past_its_timeout_is_fenced_where_celery_cannot_kill_it(project: Callable[..., Project], pool) -> None:
    """DESIGN.md section 3: a step's timeout is a deadline in SQL, on every pool."""
    shop = project(**QUICK)
    path = shop.file("cascade: c\nsteps:\n  - {id: a, task: proj.hold, timeout: 1s}\n")
    shop.worker("-P", pool, *([] if pool == "solo" else ["-c", "2"]))
    shop.start(path, "s1")
    failed = until(shop, "s1", "failed")
    assert failed["error"]["type"] == "StepTimeout"
    shop.let_go()
    wait_for(lambda: shop.runs("s1") == ["a"], "the late body to end")
    wait_for(lambda: "claim lost" in shop.nodes[0].logs(), "the late writer to be refused")
    assert shop.show("s1")["status"] == "failed"


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_pool_of_green_threads_is_refused_with_the_reason(project: Callable[..., Project], pool) -> None:
    """Not yet supported: it says so and does not start."""
    pytest.importorskip(pool)
    shop = project()
    command = ["celery", "-A", "proj", "worker", "-P", pool, "-l", "INFO"]
    done = subprocess.run(command, cwd=shop.folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "not yet supported" in done.stderr + done.stdout
