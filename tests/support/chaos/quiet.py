"""Runs of the chaos's application without the chaos: workers on every pool, sessions, and the same oracle."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from support.chaos import shapes, store
from support.chaos.bodies import Bodies
from support.chaos.counts import Counts
from support.chaos.fleet import MIX, Worker
from support.chaos.ground import Ground
from support.chaos.oracle import Judge
from support.chaos.starters import Starters
from support.cluster import READY, wait_for


class Quiet:
    """A stack with its workers up, and sessions that are started as a test wants them."""

    def __init__(self, made: Ground, workers: tuple[str, ...]) -> None:
        self.ground = made
        self.bodies = Bodies(made.folder / "bodies.log")
        self.workers = [Worker(made, name, MIX[name]) for name in workers]
        self._starters: list[Starters] = []
        for worker in self.workers:
            self.ready(worker)

    def ready(self, worker: Worker) -> None:
        """Wait until the life that a worker has now takes messages."""
        lives = len(worker.lives)
        wait_for(lambda: worker.log.read_text().count(READY) >= lives, f"worker {worker.name} to be ready", 60)

    def starters(self, jobs: Iterator[shapes.Job]) -> Starters:
        self._starters.append(Starters(self.ground, jobs))
        return self._starters[-1]

    def start(self, starters: Starters, count: int) -> None:
        """Start sessions until there are so many."""

        def enough() -> bool:
            starters.tick(count)
            return len(starters.started) >= count

        wait_for(enough, f"{count} sessions to be started", 60)

    def judged(self, starters: Starters, seconds: float = 60) -> tuple[Counts, list[str]]:
        """Wait for the end of all sessions."""
        wait_for(lambda: store.unfinished(self.ground.database_url) == 0, "all sessions to end", seconds)
        time.sleep(1)  # so that a body that must not run would be seen
        self.bodies.read()
        counts = Counts(self.ground.folder.name, 0)
        left = store.read(self.ground.database_url)
        return counts, Judge(left, starters.started, self.bodies.began, []).fill(counts)

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        for starters in self._starters:
            starters.close()


def of_shape(*names: str, ms: int | None = None) -> Iterator[shapes.Job]:
    """Sessions of these shapes; `ms`: how long each body takes."""
    for job in shapes.jobs(random.Random(1)):
        if job.shape.name in names:
            yield job if ms is None else shapes.Job(job.id, job.shape, {**job.inputs, "ms": [ms] * 6})
