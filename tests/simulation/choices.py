"""Everything that is left to chance in a history, as a list of small numbers that can be kept, replayed and shrunk.

0 is always the plainest answer: no fault, go on with what is under way, take the first. So a history in which every
choice is 0 is the undisturbed one, and a choice that is left out of a failing history makes it simpler.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

#: Numbers that an event may use.
A_EVENT = 100


class Choices:
    """The choices of one history, in the order in which they are asked for.

    Args:
        seed: of a fresh history.
        keep: number of a choice -> its answer; all others are 0. None = they are drawn.
    """

    def __init__(self, seed: int, keep: Mapping[int, int] | None = None) -> None:
        self._random = Random(seed).random
        self._keep = keep
        self.made: dict[int, int] = {}  #: the answers that were not 0
        self._next = 0

    def event(self) -> None:
        """Something else happens next: choices are numbered within their event, so that one that is left out moves
        none of the later ones.
        """
        self._next = (self._next // A_EVENT + 1) * A_EVENT

    def flip(self, chance: float) -> bool:
        """True with this probability."""
        number = self._next
        self._next += 1
        if self._keep is not None:
            answer = bool(self._keep.get(number))
        else:
            answer = self._random() < chance
        if answer:
            self.made[number] = 1
        return answer

    def pick(self, count: int) -> int:
        """A number below `count`."""
        number = self._next
        self._next += 1
        if self._keep is not None:
            answer = self._keep.get(number, 0) % count
        else:
            answer = int(self._random() * count)
        if answer:
            self.made[number] = answer
        return answer


def written(made: Mapping[int, int]) -> str:
    """Choices as a command line has them: `12:1,40:2`."""
    return ",".join(f"{number}:{answer}" for number, answer in sorted(made.items()))


def read(text: str) -> dict[int, int]:
    """The opposite of `written`."""
    pairs = (part.split(":") for part in text.split(",") if part)
    return {int(number): int(answer) for number, answer in pairs}
