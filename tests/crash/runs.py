"""One run of a scenario: its lives crash where they are told to, the last ones bring it to its end, all is checked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from celery_cascade.crash_points import CrashPoint
from celery_cascade.testing.points import CRASHED
from crash import checks, lives
from crash.checks import Seen, Violation
from crash.grounds import Ground, messages
from crash.lives import Life
from crash.places import Crash, Place, places
from crash.project import NEW, SESSION
from crash.scenarios import Scenario, Stage

#: Seconds that a stage may take once nothing crashes any more; it takes one on a machine at leisure.
PATIENCE = 90.0
#: Seconds between two looks at the store: each costs the lives some of the machine.
_LOOK = 0.1


class Combination(NamedTuple):
    """On what a run takes place."""

    database: str
    pool: str
    acks_late: bool = True


@dataclass(slots=True)
class Run:
    """What came of a run."""

    visits: dict[str, list[list[Place]]] = field(default_factory=dict)  #: of each stage's lives, in their order
    in_children: set[Place] = field(default_factory=set)  #: of the first life of each stage
    ends: list[Seen] = field(default_factory=list)  #: of the scenario's turns
    asked: int = 0
    crashed: int = 0  #: how many of the crashes that were asked for came about
    seconds: float = 0.0


class Runner:
    """Does one run."""

    def __init__(
        self, ground: Ground, on: Combination, scenario: Scenario, crashes: Mapping[str, Sequence[Crash]]
    ) -> None:
        self._ground, self._on, self._scenario, self._crashes = ground, on, scenario, crashes
        self._lives = 0
        self._left = 0  #: messages that the last life has not acknowledged
        self._before: list[list[Seen]] = []
        self._done = Run(asked=sum(map(len, crashes.values())))

    def run(self, undisturbed: Run | None) -> Run:
        """`undisturbed` is the one without a crash; None = this is it. Raises Violation: a promise was broken."""
        began, done = time.monotonic(), self._done
        on, scenario = self._on, self._scenario
        with self._ground.run(
            on.pool, acks_late=on.acks_late, concurrency=scenario.concurrency, settings=scenario.settings
        ) as (where, store):
            self._where, self._store = where, store
            kept = None
            for stage in scenario.stages:
                self._stage(stage)
                kept = kept or [checks.everything(store, f"new-{one}") for one in range(NEW)]
            self._check(undisturbed, kept)
        done.seconds = time.monotonic() - began
        return done

    def _stage(self, stage: Stage) -> None:
        lives_of = [stage.setup] if stage.setup is not None else [*self._crashes.get(stage.name, ()), None]
        for crash in lives_of:
            self._lives += 1
            life = Life(stage.target, self._where, self._lives, crash)
            try:
                crashed = self._until_over(life, stage, crash)
                if not crashed and stage.until is not None:
                    crashed = self._until_acknowledged(life, crash)
            finally:
                life.kill()
            self._note(stage, crash, crashed)
            if not crashed:
                return

    def _note(self, stage: Stage, crash: Crash | None, crashed: bool) -> None:
        visits, in_children = visited(self._where.log(self._lives))
        first = stage.name not in self._done.visits
        self._done.visits.setdefault(stage.name, []).append(visits)
        if first:
            self._done.in_children |= in_children
        if crashed:
            self._before.append(self._turns())
        if crash is not None and stage.setup is None:
            self._done.crashed += (crash.place_in_worker in in_children) if crash.loses_child else crashed

    def _until_over(self, life: Life, stage: Stage, crash: Crash | None) -> bool:
        """Wait until the life has crashed (True), or has done what it is there for (False)."""
        may_crash = crash is not None and not crash.loses_child
        give_up_at = time.monotonic() + PATIENCE
        while time.monotonic() < give_up_at:
            code = life.ended(_LOOK)
            if code is None:
                if stage.until is not None and stage.until(self._store):
                    # A crash at the very end of a session comes after its end is seen.
                    return may_crash and life.ended(0.5) is not None
            elif may_crash and code in (CRASHED, -9):
                return True
            elif code == 0 and stage.until is None:
                return False
            else:
                raise Violation("stuck", f"{stage.name}: a life ended by itself with {code}:\n{self._words()}")
        life.tell()
        raise Violation("stuck", f"{stage.name}: not over after {PATIENCE:.0f} s:\n{self._words()}")

    def _until_acknowledged(self, life: Life, crash: Crash | None = None, expected: int = 0) -> bool:
        """Wait until every message, and so many, was delivered and acknowledged: a kill then leaves none behind.

        But for that of a lost child, which Celery acknowledges only after ten seconds. True: the life has crashed, at
        one of the last acknowledgements.
        """
        lost = self._left = int(crash is not None and crash.loses_child)
        taken = acked = 0
        give_up_at = time.monotonic() + PATIENCE
        while time.monotonic() < give_up_at:
            left = messages(self._where)
            taken, acked = self._taken(), sum(place.point is CrashPoint.ACKED for place in self._visits())
            if not left and expected <= taken <= acked + lost:
                return False
            code = life.ended(_LOOK)
            if crash is not None and not lost and code in (CRASHED, -9):
                return True
            if code is not None:
                raise Violation("stuck", f"a worker ended by itself:\n{self._words()}")
        left = messages(self._where)
        raise Violation("stuck", f"{left} messages are left; {taken} taken, {acked} acknowledged:\n{self._words()}")

    def _visits(self) -> list[Place]:
        return visited(self._where.log(self._lives))[0]

    def _taken(self) -> int:
        """How many messages the last life has taken from the queue."""
        file = self._where.received(self._lives)
        return file.stat().st_size if file.exists() else 0

    def _turns(self) -> list[Seen]:
        return [checks.look(self._store, one, self._where.effects) for one in self._scenario.turns]

    def _check(self, undisturbed: Run | None, kept: list[list[str]] | None) -> None:
        store, where, scenario, done = self._store, self._where, self._scenario, self._done
        done.ends = self._turns()
        for number, (session_id, end) in enumerate(zip(scenario.turns, done.ends, strict=True)):
            if end.status != scenario.status:
                raise Violation("lost", f"{session_id} is {end.status}, not {scenario.status}:\n{self._words()}")
            for then in self._before:
                checks.check_effects(then[number], end)
            if undisturbed is not None:
                if scenario.steps:
                    checks.check_end(end, undisturbed.ends[number])
                checks.check_repeats(end, undisturbed.ends[number], done.crashed, all_ran=scenario.steps)
            if end.status is not None:
                checks.check_history(store, session_id)
        for other, taken in scenario.beside.items():
            checks.check_beside(done.ends[0], checks.look(store, other, where.effects), taken)
            checks.check_history(store, other)
        checks.check_rows(store)
        if kept != [checks.everything(store, f"new-{one}") for one in range(NEW)]:
            raise Violation("lost", "rows of a session that nobody touched have changed")
        self._deliver_the_rest()

    def _deliver_the_rest(self) -> None:
        """Messages that nobody has taken, and what a killed worker had not acknowledged: they must do nothing."""
        left = self._any_left()
        if not left:
            return
        rows, effects = checks.everything(self._store, SESSION), checks.effects_in(self._where.effects, SESSION)
        self._lives += 1
        life = Life(lives.go_on, self._where, self._lives, None)
        try:
            self._until_acknowledged(life, expected=left)
        finally:
            life.kill()
        changed = checks.everything(self._store, SESSION) != rows
        if changed or checks.effects_in(self._where.effects, SESSION) != effects:
            raise Violation("repeated", f"a message that was left over did something:\n{self._words()}")

    def _any_left(self) -> int:
        """How many messages wait; that a connection is gone which held some, RabbitMQ sees after a moment."""
        give_up_at = time.monotonic() + (1.0 if self._left and self._where.broker_url.startswith("amqp") else 0.0)
        while not (found := messages(self._where)) and time.monotonic() < give_up_at:
            time.sleep(_LOOK)
        return found

    def _words(self) -> str:
        texts = [
            path.read_text(errors="replace")[-3000:] for path in sorted(Path(self._where.folder).glob("life-*.log"))
        ]
        return "\n---\n".join([self._where.folder, *texts])


def visited(log: Path) -> tuple[list[Place], set[Place]]:
    """The visits of a life, by their names; and those of them that other processes made than the first visit's."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    found = places(line[0] for line in lines)
    return found, {place for place, line in zip(found, lines, strict=True) if line[1] != lines[0][1]}
