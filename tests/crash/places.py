"""Where to crash: visits of crash points, told by their names, so that they mean the same in every run."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from celery_cascade.crash_points import CrashPoint, arm
from celery_cascade.testing.points import CRASHED, visit_of

#: Which of several steps it is that arrives last, or is sent second, is a matter of who is quicker.
_ANY_STEP = {CrashPoint.FAN_OUT_HALF, CrashPoint.JOIN_ARRIVED, CrashPoint.JOIN_READY}
_FORM = re.compile(r"(?:(?P<step>[\w-]+):)?(?P<point>\w+)#(?P<number>\d+)(?P<child>!)?")


@dataclass(frozen=True, slots=True)
class Place:
    """The `number`-th time, counted from 1, that a life reaches a point, of a step where it is a step's.

    Args:
        point: where.
        step: whose; None = nobody's or anybody's.
        number: which time.
        child: only the process that is there crashes, not the whole worker: a lost child of the pool.
    """

    point: CrashPoint
    step: str | None = None
    number: int = 1
    child: bool = False

    def __str__(self) -> str:
        return f"{self.name}#{self.number}{'!' if self.child else ''}"

    @property
    def name(self) -> str:
        """As a line of the log of visits says it."""
        return self.point.value if self.step is None else f"{self.step}:{self.point.value}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """The opposite of `str`. Raises ValueError."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no place; it is written step:point#number or point#number")
        return cls(CrashPoint(found["point"]), found["step"], int(found["number"]), bool(found["child"]))


def name_of(point: CrashPoint, of: Any) -> str:
    """What a visit is called in the log."""
    return point.value if point in _ANY_STEP else str(visit_of(point, of))


def places(names: Iterable[str]) -> list[Place]:
    """The visits of a life in their order."""
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        found.append(Place.parse(f"{name}#{counts[name]}"))
    return found


class VisitLog:
    """A life's visits, in a file that its processes share: which one is the n-th is agreed on without a lock."""

    def __init__(self, path: str) -> None:
        self._path = path

    def add(self, name: str) -> tuple[int, int]:
        """Note a visit; how many there are of this name by now, and how many in all."""
        file = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        try:
            os.write(file, f"{name} {os.getpid()}\n".encode())
            end = os.lseek(file, 0, os.SEEK_CUR)
            lines = os.pread(file, end, 0).decode().splitlines()
        finally:
            os.close(file)
        return sum(line.split()[0] == name for line in lines), len(lines)

    def names(self) -> set[str]:
        """What was visited."""
        with open(self._path) as file:
            return {line.split()[0] for line in file}


@dataclass(frozen=True, slots=True)
class Crash:
    """When a life ends.

    Args:
        place: at this one.
        visit: at its n-th visit, whatever that is.
        together: when all of these visits have been made; those that come first wait there.
    """

    place: Place | None = None
    visit: int | None = None
    together: frozenset[str] = frozenset()

    @property
    def loses_child(self) -> bool:
        """Whether a process of the pool is lost, and not the worker."""
        return self.place is not None and self.place.child

    @property
    def place_in_worker(self) -> Place | None:
        """The place, whichever way it is crashed at."""
        return None if self.place is None else replace(self.place, child=False)

    def is_at(self, name: str, number: int, count: int) -> bool:
        """Whether this visit, the `number`-th of its name and the `count`-th in all, is the one."""
        if self.place is not None:
            return (name, number) == (self.place.name, self.place.number)
        return count == self.visit


def arm_life(log: VisitLog, crash: Crash | None, main: int) -> None:
    """From now on, note every visit of this process and its children, and crash where it is asked for.

    Args:
        log: where to note them.
        crash: where; None = nowhere.
        main: the main process of this life, which is the leader of its process group.
    """

    def visit(point: CrashPoint, of: Any) -> None:
        name = name_of(point, of)
        number, count = log.add(name)
        if crash is None:
            return
        if crash.is_at(name, number, count) and not (crash.loses_child and os.getpid() == main):
            die(main, whole=not crash.loses_child)
        if name in crash.together:
            if crash.together <= log.names():
                die(main, whole=True)
            time.sleep(60)

    arm(visit)


def die(main: int, *, whole: bool) -> None:
    """End this process, and with it the whole life unless only a child is to be lost. No handler runs."""
    if whole and os.getpid() != main:
        os.killpg(main, signal.SIGKILL)
    os._exit(CRASHED)


def at_acks(main: int, name: Callable[[Any], Any]) -> None:
    """Have ACK and ACKED reached around every acknowledgement in the worker's main process."""
    from celery.worker.request import Request

    from celery_cascade.crash_points import reached

    acknowledge = Request.acknowledge

    def acknowledged(self: Any) -> None:
        if self.acknowledged or os.getpid() != main:
            acknowledge(self)
            return
        reached(CrashPoint.ACK, name(self))
        acknowledge(self)
        reached(CrashPoint.ACKED, name(self))

    Request.acknowledge = acknowledged
