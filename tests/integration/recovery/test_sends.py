"""Decorated tasks and canvases on real workers: sent as always, and killed in the middle."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.cases import alone, until
from support.cluster import Project, wait_for

pytestmark = pytest.mark.integration

TASKS = """
from celery import chain, group


@cascades.step(retry=2)
@app.task
def charge(amount):
    record("ran")
    return amount


@app.task(name="proj.flaky", bind=True)
@cascades.step
def flaky(self):
    \"\"\"Retried as a plain message, if it was sent as one.\"\"\"
    with open(HERE / "plain.log", "a") as file:
        file.write(f"{self.request.id} {current_session()}\\n")
    if self.request.retries == 0:
        raise self.retry(countdown=0)


order = chain(charge.s(7), group(hold.s(), charge.si(1)), work.s())
"""


def test_a_canvas_whose_worker_is_killed_goes_on_and_gives_celerys_result(project: Callable[..., Project]) -> None:
    """R151, R157: the handle's id is a session's, and the canvas is in SQL."""
    shop = project()
    with (shop.folder / "proj.py").open("a") as file:
        file.write(TASKS)
    shop.python("import proj; proj.order.apply_async(task_id='s1')")
    worker = shop.worker()
    alone(shop, "s1", "hold")
    worker.kill("SIGKILL")
    shop.let_go()
    worker.restart()
    done = until(shop, "s1")
    assert done["output"] == [7, 1]
    assert sorted(shop.runs("s1")) == ["charge", "charge_2", "hold", "work"]
    assert shop.runs("s1", "began") == ["hold", "hold"]
    shop.python("import proj; proj.flaky.apply_async(durable=False, task_id='plain')")
    wait_for(lambda: (shop.folder / "plain.log").exists(), "the plain task")
    wait_for(lambda: len((shop.folder / "plain.log").read_text().split()) == 4, "its retry")
    assert (shop.folder / "plain.log").read_text() == "plain None\n" * 2
