"""Real processes that die in the middle of a step which must not run twice unasked (R85, D2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.cases import QUICK, alone, until
from support.cluster import Project, wait_for

pytestmark = pytest.mark.integration

STEPS = """\
cascade: doubt
steps:
  - {{id: a, task: proj.{task}, with: [1], on_crash: {on_crash}}}
  - {{id: beside, task: proj.work, with: [2], needs: []}}
  - {{id: after, task: proj.work, needs: [a, beside], with: ["{{{{ outputs.a }}}}"]}}
"""


def resume(shop: Project, session_id: str, said: str) -> None:
    shop.python(f"from proj import cascades; cascades.session({session_id!r}).resume({said}, actor='ann')")


def suspended(shop: Project, session_id: str) -> dict[str, Any]:
    wait_for(lambda: shop.show(session_id)["status"] == "suspended", f"{session_id} to be suspended", 40)
    found = shop.show(session_id)
    assert found["reason"] == "in_doubt"
    return found


def test_a_killed_pool_child_leaves_its_step_in_doubt_until_somebody_answers(project: Callable[..., Project]) -> None:
    """The worker lives on; the step is neither run again nor lost."""
    shop = project()
    shop.worker()
    for session_id, said, output in (("s1", "done=7", 7), ("s2", "again=True", 1), ("s3", "skip=True", None)):
        shop.start(shop.file(STEPS.format(task="die_once", on_crash="ask")), session_id)
        (waits,) = suspended(shop, session_id)["waits_for"]
        assert (waits["step"], waits["attempt"], waits["crashes"]) == ("a", 1, 1)
        assert waits["worker"].startswith("one@")
        assert "a" not in shop.runs(session_id)
        resume(shop, session_id, said)
        assert until(shop, session_id)["output"] == output
    assert [len(shop.runs(one, "began")) for one in ("s1", "s2", "s3")] == [1, 2, 1]


def test_a_killed_worker_leaves_its_step_in_doubt_and_another_does_not_take_it(
    project: Callable[..., Project],
) -> None:
    """R134: recovery by another worker parks it."""
    shop = project(**QUICK)
    first = shop.worker(name="one")
    shop.start(shop.file(STEPS.format(task="hold", on_crash="ask")), "s1")
    alone(shop, "s1", "a")
    first.kill("SIGKILL")
    shop.let_go()
    shop.worker(name="two")
    suspended(shop, "s1")
    resume(shop, "s1", "done=5")
    assert until(shop, "s1")["output"] == 5
    assert sorted(shop.runs("s1")) == ["after", "beside"]
    assert shop.runs("s1", "began") == ["a"]


def test_a_cold_shutdown_leaves_the_step_that_it_cut_off_in_doubt(project: Callable[..., Project]) -> None:
    """SIGQUIT is somebody's wish and no crash; the work may be done all the same."""
    shop = project(**QUICK)
    worker = shop.worker()
    shop.start(shop.file(STEPS.format(task="hold", on_crash="ask")), "s1")
    alone(shop, "s1", "a")
    worker.kill("SIGQUIT")
    worker.container.process.wait(30)
    found = suspended(shop, "s1") if shop.show("s1")["status"] == "suspended" else None
    shop.worker(name="two")
    found = found or suspended(shop, "s1")
    assert [one["step"] for one in found["waits_for"]] == ["a"]
    shop.let_go()
    resume(shop, "s1", "again=True")
    assert until(shop, "s1")["output"] == 1
    assert shop.runs("s1", "began") == ["a", "a"]


@pytest.mark.parametrize("task", ["die_once", "hold"])
def test_a_step_that_fails_at_a_crash_fails_its_session(project: Callable[..., Project], task: str) -> None:
    """A killed pool child, and a killed worker."""
    shop = project(**QUICK)
    worker = shop.worker(name="one")
    shop.start(shop.file(STEPS.format(task=task, on_crash="fail")), "s1")
    wait_for(lambda: shop.runs("s1", "began") == ["a"], "the step to begin")
    if task == "hold":
        worker.kill("SIGKILL")
        shop.worker(name="two")
    done = until(shop, "s1", "failed")
    assert (done["error"]["type"], done["error"]["step"]) == ("WorkerLost", "a")
    assert (done["steps"][0]["status"], done["steps"][2]["status"]) == ("failed", "pending")
    assert shop.runs("s1", "began") == ["a"]
