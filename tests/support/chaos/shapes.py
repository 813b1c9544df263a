"""The cascades that run under chaos, and how each has to end."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SLOWEST = 300  # milliseconds that a body takes at most

#: Without an end in practice: what times out because its worker was stopped, or the database away, is tried again.
_AGAIN = "retry: {max_attempts: 1000, delay: 200ms}"


@dataclass(frozen=True)
class Shape:
    """A cascade file whose output is `factor` times its input `n`."""

    name: str
    steps: str
    last: str
    factor: int = 1
    status: str = "completed"

    @property
    def text(self) -> str:
        output = f'output: "{{{{ outputs.{self.last} }}}}"\n' if self.status == "completed" else ""
        return f"cascade: {self.name}\ninputs: {{n: integer, ms: array}}\nsteps:\n{self.steps}{output}"


@dataclass(frozen=True)
class Job:
    """A session to be started, and its end."""

    id: str
    shape: Shape
    inputs: dict[str, Any]

    @property
    def output(self) -> int | None:
        return self.inputs["n"] * self.shape.factor if self.shape.status == "completed" else None


def _step(name: str, task: str, value: str, turn: int, more: str = "") -> str:
    """A line of a cascade file; `turn` says which of the input's durations is the step's."""
    ms = f'"{{{{ inputs.ms[{turn}] }}}}"'
    return f"  - {{id: {name}, task: proj.{task}, with: [{value}, {ms}]{more and ', ' + more}}}\n"


def _of(step: str) -> str:
    return f'"{{{{ outputs.{step} }}}}"'


_FIRST = _step("first", "work", '"{{ inputs.n }}"', 0)


def _fan(name: str, width: int) -> Shape:
    branches = [f"b{number}" for number in range(width)]
    steps = _FIRST + "".join(
        _step(branch, "work", _of("first"), 1 + turn % 3, "needs: [first]") for turn, branch in enumerate(branches)
    )
    steps += _step(
        "join", "add", f"[{', '.join(_of(branch) for branch in branches)}]", 4, f"needs: [{', '.join(branches)}]"
    )
    return Shape(name, steps + _step("last", "work", _of("join"), 5), "last", factor=width)


def _with(name: str, second: str, more: str = "", status: str = "completed") -> Shape:
    """Three steps, whose second is the one that does something."""
    steps = _FIRST + _step("second", second, _of("first"), 1, more) + _step("last", "work", _of("second"), 2)
    return Shape(name, steps, "last", status=status)


def _chain(name: str, length: int) -> Shape:
    names = ["first", *(f"s{number}" for number in range(1, length))]
    rest = (_step(step, "work", _of(before), turn) for turn, (before, step) in enumerate(pairwise(names)))
    return Shape(name, _FIRST + "".join(rest), names[-1])


SHAPES = (
    _chain("chain", 5),
    _fan("fan", 3),
    _fan("wide", 8),
    _with("shaky", "shaky", _AGAIN),
    _with("timed", "slow", f"timeout: 1s, {_AGAIN}"),
    _with("broken", "broken", status="failed"),
)
_WEIGHTS = (5, 5, 2, 3, 2, 1)


def jobs(rng: random.Random) -> Iterator[Job]:
    """Sessions without end, chosen by the seed."""
    for number in itertools.count():
        yield Job(
            id=f"c{number:04d}",
            shape=rng.choices(SHAPES, _WEIGHTS)[0],
            inputs={"n": rng.randrange(1, 1000), "ms": [rng.randrange(SLOWEST + 1) for _ in range(6)]},
        )
