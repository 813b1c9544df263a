"""Faults that other systems had with messages and joins, on real brokers, stores and workers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.cases import DIAMOND, QUICK, alone, until
from support.cluster import Project, wait_for
from support.stacks import Stack, parts

pytestmark = pytest.mark.integration

HELD = """\
cascade: held
steps:
  - {id: held, task: proj.hold, with: [1]}
  - {id: after, task: proj.work, with: ["{{ outputs.held }}"]}
"""
COUNTDOWN = """\
cascade: countdown
steps:
  - {id: again, task: proj.fail, retry: {max_attempts: 2, delay: 11s}}
  - {id: after, task: proj.work, with: [2]}
"""


@pytest.mark.slow
@pytest.mark.broker_server
def test_a_step_that_redis_delivers_again_while_it_runs_runs_once(
    project: Callable[..., Project], stack: Stack
) -> None:
    """Redis gives a message to another worker once `visibility_timeout` is over: under acks_late that is as long as the
    step runs, and as long as a countdown lasts. Ours waits in SQL, and a duplicate takes nothing over."""
    if parts(stack.name).broker != "redis":
        pytest.skip("only Redis has a visibility timeout")
    # kombu looks for what is overdue 10 s after a worker's start and then every 100 s, not at all if both look at once.
    often = {"visibility_timeout": 1, "unacked_restore_interval": 3, "unacked_restore_throttle": 1}
    shop = project(broker_transport_options=often, task_acks_late=True, task_reject_on_worker_lost=True)
    nodes = [shop.worker("-P", "threads", "-c", "2", name="one")]
    shop.start(shop.file(HELD), "s1")
    shop.start(shop.file(COUNTDOWN, "countdown.yaml"), "s2")
    wait_for(lambda: shop.runs("s1", "began") == ["held"], "the step to run")
    nodes.append(shop.worker("-P", "threads", "-c", "2", name="two"))

    def received() -> int:
        lines = [line for node in nodes for line in node.logs().splitlines()]
        return sum("Task proj.hold[" in line and line.endswith("received") for line in lines)

    wait_for(lambda: received() >= 2, "Redis to deliver it again", 60)
    assert shop.runs("s1", "began") == ["held"], "the duplicate runs nothing"
    assert shop.show("s1")["steps"][0]["attempt"] == 1
    shop.let_go()
    done = until(shop, "s1")
    assert [(step["attempt"], step["crashes"]) for step in done["steps"]] == [(1, 0), (1, 0)]
    assert shop.runs("s1") == ["held", "after"]
    done = until(shop, "s2")
    assert shop.runs("s2") == ["again", "again", "after"]
    assert [step["attempt"] for step in done["steps"]] == [2, 1]


def test_a_join_runs_although_the_worker_of_one_of_its_members_died(project: Callable[..., Project]) -> None:
    """celery#5027: a chord whose header task is lost with its worker never runs its body."""
    shop = project(**QUICK)
    path = shop.file(DIAMOND)
    first = shop.worker("-P", "threads", "-c", "2", name="one")
    shop.start(path, "s1", {"order_id": 7})
    alone(shop, "s1", "slow")
    shop.worker("-P", "threads", "-c", "2", name="two")
    first.kill("SIGKILL")
    shop.let_go()
    done = until(shop, "s1")
    assert done["output"] == ["left", 7]
    assert sorted(shop.runs("s1")) == ["first", "join", "last", "left", "right", "slow"]
    assert {step["step"]: step["crashes"] for step in done["steps"]}["slow"] == 1
    wait_for(lambda: "session s1: 1/1 steps restored: slow" in shop.nodes[1].logs(), "the report", 5)
