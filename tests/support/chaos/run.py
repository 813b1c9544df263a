"""One run of the chaos: sessions are started and everything is broken at random; then all is up again, and must end."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.chaos import faults, shapes, store
from support.chaos.bodies import Bodies
from support.chaos.counts import Counts
from support.chaos.fleet import MIX, Worker, end_group
from support.chaos.ground import Ground, ground, settings_of
from support.chaos.oracle import Judge
from support.chaos.starters import Starters

TICK = 0.05
AHEAD = 6  # sessions that are started beyond what the progress of the kills allows: so that there is always work
KILLS_AMONG_FAULTS = 0.5
A_MOMENT = 2.0  # seconds that a fault may wait for its moment, say for a child in the middle of a body


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is to do.

    Args:
        sessions: at least so many are started; more if there is nothing to be killed at otherwise.
        seconds: how long the kills are spread over, about.
        patience: seconds for the sessions to end, once everything is up again.
        outage: seconds that the database server is away in the middle of the run, once.
    """

    stack: str
    seed: int
    sessions: int
    kills: int
    seconds: float
    patience: float = 120.0
    outage: float = 0.0


class Chaos:
    """The state of a run between two faults."""

    def __init__(self, plan: Plan, ground: Ground, rng: random.Random, say: Callable[[str], None]) -> None:
        self.plan, self.ground, self.rng, self.say = plan, ground, rng, say
        self.counts = Counts(plan.stack, plan.seed)
        self.bodies = Bodies(ground.folder / "bodies.log")
        self.workers: list[Worker] = []
        self.frozen: Worker | None = None
        self.pauses: list[tuple[frozenset[int], float, float]] = []  # processes, from, to
        self.neighbour: Any = None
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._outage_done = False
        self._chosen: faults.Fault | None = None
        self.starters = Starters(ground, shapes.jobs(random.Random(plan.seed)))

    def later(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay, next(self._number), what))

    # -- the run
    def break_things(self) -> None:
        """Until there were enough kills, and every session is started."""
        plan, began = self.plan, time.monotonic()
        for name, arguments in MIX.items():
            self.workers.append(Worker(self.ground, name, arguments))
        pace = plan.seconds * KILLS_AMONG_FAULTS / max(1, plan.kills)
        next_fault, told = began + 2 * pace, began
        while self.counts.kills < plan.kills or len(self.starters.started) < plan.sessions:
            self.tick(self.allowed())
            if plan.outage and self.counts.kills >= plan.kills // 2:
                self.take_database_away()
            if time.monotonic() >= next_fault and self.counts.kills < plan.kills and self.next_fault():
                next_fault = time.monotonic() + pace * self.rng.uniform(0.3, 1.7)
            if time.monotonic() >= told + 10:
                told = time.monotonic()
                self.say(self.progress(told - began))
            if time.monotonic() - began > 4 * plan.seconds + 60:
                raise RuntimeError(f"{plan.kills} kills were not to be done in time: {self.progress(0)}")
            time.sleep(TICK)

    def take_database_away(self) -> None:
        """Once, for as long as the plan says. Everything else goes on."""
        database = self.ground.database
        if self._outage_done or database is None or not database.runs or not database.answers():
            return
        self._outage_done = True
        self.counts.faults[f"{database.title} away for {self.plan.outage:g} s"] += 1
        database.stop()
        self.later(self.plan.outage, database.launch)

    def allowed(self) -> int:
        """How many sessions may be started by now: as many in proportion as there were kills.

        Beyond that, and beyond the plan's number, a fault that waits for a busy process gets something to wait for.
        """
        share = self.counts.kills / max(1, self.plan.kills)
        by_now = AHEAD + round(self.plan.sessions * min(1.0, share))
        if self._chosen is not None and not self.bodies.busy():
            return max(by_now, len(self.starters.started) + 1)
        return min(by_now, max(self.plan.sessions, len(self.starters.started)))

    def progress(self, seconds: float) -> str:
        return (
            f"{seconds:4.0f} s: {len(self.starters.started)} of {self.plan.sessions} sessions started, "
            f"{self.counts.kills} of {self.plan.kills} kills, {sum(self.counts.faults.values())} faults"
        )

    def tick(self, allowed: int) -> None:
        """What is due, and whoever has to be looked after."""
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()
        self.starters.tick(allowed)
        for worker in self.workers:
            if worker.runs:
                continue
            if not worker.told_to_end:
                self.counts.workers_that_ended_by_themselves += 1
                said = [line for line in worker.log.read_text().splitlines() if "CRITICAL" in line][-1:]
                self.say(f"worker {worker.name} ended by itself, exit code {worker.process.returncode} {said}")
            elif worker.process.returncode == -9:
                continue  # killed; a timer starts it
            worker.start()

    def next_fault(self) -> bool:
        """Try the one whose turn it is; it may have to wait for its moment. True = that is over."""
        if self._chosen is None:
            kinds = faults.EMBEDDED if self.ground.broker is None else faults.ON_SERVERS
            self._chosen, _ = self.rng.choices(kinds, [weight for _, weight in kinds])[0]
            self._chosen_at = time.monotonic()
        done = self._chosen(self)
        if done:
            self.counts.faults[done] += 1
        if done is not None or time.monotonic() - self._chosen_at > A_MOMENT:
            self._chosen = None
            return True
        return False

    # -- and its end
    def let_it_end(self) -> list[str]:
        """Everything up again; wait; judge. Returns what is not as it has to be."""
        while self._timers or self.starters.busy:  # frozen ones go on, servers start, workers come back
            self.tick(0)
            time.sleep(TICK)
        for server in self.ground.servers:
            while not server.answers():
                time.sleep(TICK)
        give_up_at = time.monotonic() + self.plan.patience
        url = self.ground.database_url
        self.say(f"all is up again; {store.unfinished(url)} sessions have not ended yet")
        while store.unfinished(url) and time.monotonic() < give_up_at:
            self.tick(0)
            time.sleep(0.2)
        time.sleep(2)  # messages that are left find nothing to do
        self.bodies.read()
        self.counts.faults["client killed between commit and publish"] = self.starters.deaths
        left = store.read(self.ground.database_url)
        return Judge(left, self.starters.started, self.bodies.began, self.pauses).fill(self.counts)

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self.starters.close()
        if self.neighbour is not None:
            end_group(self.neighbour)


def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> tuple[Counts, list[str]]:
    """The counts, and every violation as a sentence."""
    rng = random.Random(plan.seed)
    settings = settings_of(rng)
    say(f"{plan.stack}: seed {plan.seed}, in {folder}, {settings}")
    with ground(plan.stack, folder, settings) as made:
        began = time.monotonic()
        chaos = Chaos(plan, made, rng, say)
        try:
            chaos.break_things()
            violations = chaos.let_it_end()
        finally:
            chaos.close()
        chaos.counts.seconds = round(time.monotonic() - began, 1)
        return chaos.counts, violations
