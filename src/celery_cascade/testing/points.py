"""Crashing at crash points: note which are reached, or end the process at one of them."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from celery_cascade.crash_points import CrashPoint, arm

#: Exit code of a process that has crashed on purpose: what a shell shows for SIGKILL.
CRASHED = 137


class Visit(NamedTuple):
    """One time that a point was reached."""

    point: CrashPoint
    step: str | None = None  #: whose point it is, where it is a step's

    def __str__(self) -> str:
        return self.point.value if self.step is None else f"{self.step}:{self.point.value}"


def visit_of(point: CrashPoint, of: Any) -> Visit:
    """The visit that a call of `reached` is."""
    return Visit(point, getattr(of, "step", None))


@contextmanager
def recording(note: Callable[[Visit], None]) -> Iterator[None]:
    """Inside, every point that this process reaches is noted."""
    arm(lambda point, of: note(visit_of(point, of)))
    try:
        yield
    finally:
        arm(None)


def sentences() -> dict[CrashPoint, str]:
    """What is true at each point, as it stands beside its name."""
    found = re.findall(r'^ +([A-Z_]+) = ".*?"  #: (.*)$', inspect.getsource(CrashPoint), re.MULTILINE)
    return {CrashPoint[name]: said for name, said in found}


def crash_at(
    number: int, *, wanted: Callable[[Visit], bool] = lambda _: True, crash: Callable[[], None] | None = None
) -> None:
    """From now on, end this process where it reaches a wanted point for the `number`-th time, counted from 1.

    Args:
        number: which visit.
        wanted: which visits count.
        crash: what to do there; None = `os._exit`, which runs no handler and flushes nothing, as a SIGKILL.
    """
    left = number

    def visit(point: CrashPoint, of: Any) -> None:
        nonlocal left
        if wanted(visit_of(point, of)):
            left -= 1
            if left == 0:
                (crash or crash_now)()

    arm(visit)


def crash_now() -> NoReturn:
    """End this process as SIGKILL would."""
    os._exit(CRASHED)
