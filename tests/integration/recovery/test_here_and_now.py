"""Runs without worker and broker are taken over like any other when their process is gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.cases import DIAMOND, QUICK, until
from support.cluster import Project

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("end", ["os._exit(9)", "raise KeyboardInterrupt"])
def test_a_run_here_and_now_that_ended_early_goes_on_in_a_worker(project: Callable[..., Project], end: str) -> None:
    """R13, rule 6: what it had queued for itself alone is sent once it is gone."""
    shop = project(**QUICK)
    path = shop.file(DIAMOND)
    code = (
        "import os\n"
        "from proj import cascades, app\n"
        "from celery_cascade.tasks import driver\n"
        "run, ran = driver.run_step, []\n"
        "def one_only(runtime, step):\n"
        "    if ran:\n"
        f"        {end}\n"
        "    ran.append(step)\n"
        "    run(runtime, step)\n"
        "driver.run_step = one_only\n"
        f"cascades.run({str(path)!r}, {{'order_id': 7}}, session_id='s1')\n"
    )
    assert shop.python(code, check=False).returncode != 0
    assert shop.runs("s1") == ["first"]
    shop.let_go()
    shop.worker()
    assert until(shop, "s1", seconds=15)["output"] == ["left", 7]
    assert sorted(shop.runs("s1")) == ["first", "join", "last", "left", "right", "slow"]
