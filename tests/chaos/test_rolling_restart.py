"""A deploy: workers are restarted one after the other, under the same node names, while sessions run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.chaos.quiet import Quiet, of_shape
from support.cluster import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SESSIONS = 30


@pytest.mark.parametrize("stack", ["redis-postgresql", "rabbitmq-mariadb"])
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_workers_restarted_one_after_the_other_lose_nothing(quiet: Callable[..., Quiet], stack: str, how: str) -> None:
    """R127, dbos#804: the new life of a node has the old one's name and is another worker."""
    run = quiet(stack, "prefork", "threads", "solo")
    starters = run.starters(of_shape("chain", "fan"))
    for turn, worker in enumerate(run.workers, start=1):
        run.start(starters, SESSIONS * turn // len(run.workers))
        if how == "SIGTERM":
            worker.terminate()
            wait_for(lambda worker=worker: not worker.runs, f"{worker.name} to end", 30)
            assert worker.process.returncode == 0
        else:
            worker.kill()
        worker.start()
        run.ready(worker)
    counts, violations = run.judged(starters)
    assert violations == []
    assert counts.sessions == SESSIONS
    if how == "SIGTERM":  # a warm shutdown ends what runs: no step began a second time
        assert counts.bodies == counts.steps
        assert counts.crashes_recorded == 0
    else:
        assert counts.bodies <= counts.steps + counts.crashes_recorded
