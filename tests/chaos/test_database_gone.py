"""The database is stopped for a while in mid-run, and started again."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from support import warm
from support.chaos import store
from support.chaos.fleet import Worker
from support.chaos.ground import TIMEOUT
from support.chaos.quiet import Quiet, of_shape
from support.cluster import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Seconds. Whoever judged by the age of heartbeats alone would take everybody for dead after TIMEOUT.
AWAY = 30.0 if os.environ.get("CASCADE_SOAK") == "1" else 8.0
STEP = 2000  # milliseconds: the steps end in the middle of the outage
#: Bytes that a process may gain while the database is away: at first, when it loads what it needs for its complaints,
#: and in the second half of the outage.
#: In 30 seconds a process gains less than 1 MiB on either. On MariaDB it was 15 MiB, when each try to connect read all
#: certificates of the machine (persistence/mysql_tls.py).
AT_FIRST, FLAT = 8 * 2**20, 2 * 2**20
RUNNING = 5  # prefork and threads have two places each, solo one


@pytest.mark.parametrize("stack", ["redis-postgresql", "rabbitmq-mariadb"])
def test_a_database_that_is_gone_costs_time_only(
    quiet: Callable[..., Quiet], stack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R121: running steps wait with their result, nobody is declared dead, nothing is lost or run twice, memory is
    flat. 8 seconds at heartbeats of 0.5 s and a timeout of 3 s; 30 seconds with CASCADE_SOAK=1.
    """
    assert AWAY > 2 * TIMEOUT
    monkeypatch.setattr(warm, "COLD", True)  # a forked process seems to gain what it has not touched yet
    run = quiet(stack, "prefork", "threads", "solo")
    database = run.ground.database
    assert database is not None
    starters = run.starters(of_shape("chain", ms=STEP))
    run.start(starters, RUNNING)

    def all_run() -> bool:
        run.bodies.read()
        return len(run.bodies.open) == RUNNING

    wait_for(all_run, "every place to run a step", 30)
    database.stop()
    began, before = time.monotonic(), memory(run.workers)
    samples = [before]
    while time.monotonic() - began < AWAY:
        time.sleep(0.5)
        samples.append(memory(run.workers))
    run.bodies.read()
    assert len(run.bodies.began) == RUNNING  # all ended by now, and nobody could begin another one
    assert run.bodies.open == {}
    assert all(worker.runs for worker in run.workers)
    database.start()
    counts, violations = run.judged(starters)
    assert violations == []
    assert (counts.sessions, counts.bodies) == (RUNNING, counts.steps)
    assert store.read(run.ground.database_url).attempts == []  # no crash, no release
    assert [len(worker.lives) for worker in run.workers] == [1, 1, 1]
    half = samples[len(samples) // 2]
    for pid in before:
        course = [f"{sample[pid] / 2**20:.1f}" for sample in samples[:: len(samples) // 8]]
        print(f"process {pid}: {' '.join(course)} MiB")
        assert max(sample[pid] for sample in samples) - before[pid] < AT_FIRST
        assert samples[-1][pid] - half[pid] < FLAT


def memory(workers: list[Worker]) -> Counter[int]:
    """Process id -> resident bytes, of the workers and their pools."""
    return Counter(
        {pid: psutil.Process(pid).memory_info().rss for worker in workers for pid in (worker.pid, *worker.children())}
    )
