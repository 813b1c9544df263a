"""Clients that start sessions as fast as they are let, and die in between."""

from __future__ import annotations

from collections.abc import Iterator

from support.chaos.fleet import Client
from support.chaos.ground import Ground
from support.chaos.shapes import Job

DIED = 77  # what client.py ends with when it kills itself


class Starters:
    """Two client processes and the sessions that they still have to start."""

    def __init__(self, ground: Ground, jobs: Iterator[Job]) -> None:
        self._log = ground.folder / "started.log"
        self._clients = [Client(ground, f"client{number}") for number in (1, 2)]
        self._left = jobs
        self._again: list[Job] = []
        self._deaths_wanted = 0
        self.deaths = 0
        self.started: dict[str, Job] = {}

    def want_a_death(self) -> None:
        """The next start ends its process between commit and publish."""
        self._deaths_wanted += 1

    def tick(self, allowed: int) -> None:
        """See what was started, and hand out more: until so many are."""
        done = {line.split()[1] for line in self._log.read_text().splitlines()} if self._log.exists() else set()
        for client in self._clients:
            self._look_after(client, done)
            if client.job is None and (self._again or len(self.started) + self._in_hand < allowed):
                self._give(client)

    @property
    def busy(self) -> bool:
        """Whether a start is under way that has not been confirmed."""
        return bool(self._in_hand or self._again)

    @property
    def _in_hand(self) -> int:
        return sum(client.job is not None for client in self._clients)

    def _look_after(self, client: Client, done: set[str]) -> None:
        ended = client.process.poll()
        if client.job is not None and client.job.id in done:
            self.started[client.job.id] = client.job
            client.job = None
        if ended is None:
            return
        if client.job is not None and client.die and ended == DIED:
            self.started[client.job.id] = client.job  # committed: it was killed at the publish
            self.deaths += 1
        elif client.job is not None:
            self._again.append(client.job)
        client.job = None
        client.close()
        client.start()

    def _give(self, client: Client) -> None:
        job = self._again.pop() if self._again else next(self._left)
        die = self._deaths_wanted > 0
        self._deaths_wanted -= int(die)
        client.give(job, die=die)

    def close(self) -> None:
        for client in self._clients:
            client.close()
