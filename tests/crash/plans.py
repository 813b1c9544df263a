"""Which crashes are tried: every single one, those that a quick run takes of them, and samples of pairs."""

from __future__ import annotations

import random
import zlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from celery_cascade.crash_points import CrashPoint
from crash.checks import Violation
from crash.grounds import Grounds
from crash.places import Crash, Place
from crash.runs import Combination, Run, Runner
from crash.scenarios import Scenario

#: Into how many parts a quick run divides the singles: as many as there are pools, and databases.
SHARES = 3
#: Runs at once in one process; their lives mostly wait.
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """The crashes of one run: of each stage's first life, second life, and so on."""

    crashes: tuple[tuple[str, tuple[Crash, ...]], ...] = ()

    def __str__(self) -> str:
        words = []
        for stage, several in self.crashes:
            words += [f"{stage}/{crash.place or crash.visit}" for crash in several]
        return " ".join(words) or "no crash"

    @classmethod
    def single(cls, stage: str, place: Place) -> Plan:
        return cls(((stage, (Crash(place),)),))

    @classmethod
    def parse(cls, words: list[str]) -> Plan:
        """From the words of `str`; several of one stage are of its lives in turn. Raises ValueError."""
        found: dict[str, tuple[Crash, ...]] = {}
        for word in words:
            stage, _, place = word.partition("/")
            crash = Crash(visit=int(place)) if place.isdecimal() else Crash(Place.parse(place))
            found[stage] = (*found.get(stage, ()), crash)
        return cls(tuple(found.items()))


@dataclass(slots=True)
class Tally:
    """What was tried on one combination."""

    points: int = 0
    singles: int = 0
    pairs: int = 0
    not_reached: int = 0
    seconds: float = 0.0
    violations: list[tuple[Plan, Violation]] = field(default_factory=list)
    #: Of singles: what the life after the crash visited.
    recoveries: dict[tuple[str, Place], list[Place]] = field(default_factory=dict)

    def count(self, kind: str) -> int:
        return sum(violation.kind == kind for _, violation in self.violations)


class Trial:
    """A scenario on one combination: its undisturbed run, and as many crashed ones as are asked for."""

    def __init__(self, grounds: Grounds, on: Combination, scenario: Scenario) -> None:
        self._grounds, self._on, self._scenario = grounds, on, scenario
        self.calm = self._try(Plan(), None)
        self.tally = Tally(points=sum(1 for _ in self.singles()))

    def singles(self, *, children: bool = True) -> Iterator[tuple[str, Place]]:
        """Every visit of the undisturbed run; those of a pool's children twice: the child is lost, or the worker."""
        for stage in self._scenario.stages:
            if not stage.enumerated:
                continue
            for place in self.calm.visits[stage.name][0]:
                yield stage.name, place
                if children and self._scenario.children and place in self.calm.in_children:
                    yield stage.name, replace(place, child=True)

    def quick(self, share: int, lost: int, always: Collection[CrashPoint] = ()) -> Iterator[tuple[str, Place]]:
        """One of the three shares that together are all singles; of lost children, one at each point.

        Args:
            share: which, from 0 to 2.
            lost: which third of the points at which children are lost, from 0 to 2.
            always: points whose first visit is in each share, and at which a child is lost in each.
        """
        firsts: set[tuple[str, CrashPoint, bool]] = set()
        for stage, place in self.singles():
            first = (stage, place.point, place.child) not in firsts
            firsts.add((stage, place.point, place.child))
            mine = _share(place.point) == lost and first if place.child else _share(f"{stage}/{place}") == share
            if mine or (first and place.point in always):
                yield stage, place

    def run(self, plans: list[Plan]) -> Iterator[tuple[Plan, Run | Violation]]:
        """Do these runs, some at once; what came of each, in their order."""

        def one(plan: Plan) -> Run | Violation:
            try:
                done = self._try(plan, self.calm)
                return done if done.crashed == done.asked else self._try(plan, self.calm)
            except Violation as violation:
                return violation

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for plan, came in zip(plans, pool.map(one, plans), strict=True):
                self._note(plan, came)
                yield plan, came

    def _note(self, plan: Plan, came: Run | Violation) -> None:
        several = sum(len(crashes) for _, crashes in plan.crashes)
        if isinstance(came, Violation):
            self.tally.violations.append((plan, came))
        elif came.crashed < came.asked:
            self.tally.not_reached += 1
            return
        elif several == 1:
            stage, (crash,) = plan.crashes[0]
            if crash.place is not None and not crash.loses_child:
                self.tally.recoveries[stage, crash.place] = came.visits[stage][1]
        if several == 1:
            self.tally.singles += 1
        else:
            self.tally.pairs += 1

    def _try(self, plan: Plan, undisturbed: Run | None) -> Run:
        with self._grounds.one() as ground:
            return Runner(ground, self._on, self._scenario, dict(plan.crashes)).run(undisturbed)

    # -- pairs
    def sampled_pairs(self, chance: random.Random, count: int) -> list[Plan]:
        """Crashes anywhere in the run, and again at some visit of what follows: about as many as are left."""
        singles = list(self.singles(children=False))
        plans = []
        for _ in range(count):
            at = chance.randrange(len(singles))
            stage, place = singles[at]
            left = max(2, sum(1 for other, _ in singles[at:] if other == stage) - 3)
            plans.append(Plan(((stage, (Crash(place), Crash(visit=chance.randint(1, left)))),)))
        return plans

    def all_pairs(self) -> list[Plan]:
        """Every visit of the recovery from every single; the singles must have been run."""
        return [
            Plan(((stage, (Crash(first), Crash(second))),))
            for (stage, first), visits in self.tally.recoveries.items()
            for second in visits
        ]


def _share(of: str) -> int:
    return zlib.crc32(of.encode()) % SHARES


def command(on: Combination, scenario: Scenario, plan: Plan) -> str:
    """What repeats exactly this run."""
    early = "" if on.acks_late else " --early-acks"
    at = "".join(f" --at {word}" for word in str(plan).split()) if plan.crashes else ""
    return f"scripts/crashes --scenario {scenario.name} --database {on.database} --pool {on.pool}{early}{at}"
