"""A deploy: workers are restarted one after the other, under the same node names, while sessions run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.chaos.counts import Counts
from support.chaos.fleet import Worker
from support.chaos.quiet import Quiet, of_shape
from support.cluster import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]

A_TURN = 5  # sessions that are started before each restart


@pytest.mark.parametrize("stack", ["redis-postgresql", "rabbitmq-mariadb"])
def test_workers_restarted_one_after_the_other_lose_nothing(quiet: Callable[..., Quiet], stack: str) -> None:
    """R127, dbos#804: the new life of a node has the old one's name and is another worker. First by SIGTERM, then by
    SIGKILL.
    """
    run = quiet(stack, "prefork", "threads", "solo")
    starters = run.starters(of_shape("chain", "fan"))

    def restart(end: Callable[[Worker], None]) -> Counts:
        for worker in run.workers:
            run.start(starters, len(starters.started) + A_TURN)
            end(worker)
            worker.start()
            run.ready(worker)
        counts, violations = run.judged(starters)
        assert violations == []
        return counts

    counts = restart(_gently)
    assert counts.bodies == counts.steps  # a warm shutdown ends what runs: no step began a second time
    assert (counts.sessions, counts.crashes_recorded) == (A_TURN * len(run.workers), 0)
    counts = restart(Worker.kill)
    assert counts.bodies <= counts.steps + counts.crashes_recorded
    assert counts.sessions == 2 * A_TURN * len(run.workers)


def _gently(worker: Worker) -> None:
    """A pool child (billiard 4.2) may wait 30 s for its last answer to be taken; about one in fifty does."""
    worker.terminate()
    wait_for(lambda: not worker.runs, f"{worker.name} to end", 60)
    assert worker.process.returncode == 0
