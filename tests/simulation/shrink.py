"""A failing history made smaller: fewer steps, faults and choices that are not the plainest, until none can go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from simulation.choices import A_EVENT, written
from simulation.history import History

#: (choices to keep or None, numbers of steps to leave out) -> the history of it.
Play = Callable[[Mapping[int, int] | None, Collection[int]], History]


class Shrinker:
    """Looks for the smallest history that still goes wrong.

    Args:
        play: plays a history.
        first: the one that failed.
        tries: histories to play at most.
    """

    def __init__(self, play: Play, first: History, *, tries: int = 2000) -> None:
        self._play = play
        self._left = tries
        self.best = first
        self.keep: dict[int, int] = dict(first.made)
        self.dropped: frozenset[int] = frozenset()

    def run(self) -> History:
        while self._left > 0 and (
            self._drop_steps() | self._drop_choices() | self._cut_events() | self._lower_choices()
        ):
            pass
        return self.best

    def _fails(self, keep: Mapping[int, int], dropped: Collection[int]) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        found = self._play(keep, dropped)
        smaller = (found.steps, len(found.made), found.events) < (self.best.steps, len(self.keep), self.best.events)
        if found.problem is None or not smaller:
            return False
        self.best, self.keep, self.dropped = found, dict(found.made), frozenset(dropped)
        return True

    def _drop_steps(self) -> bool:
        smaller = False
        for number in range(self.best.steps + len(self.dropped)):
            if number not in self.dropped and self.best.steps > 1:
                smaller |= self._fails(self.keep, self.dropped | {number})
        return smaller

    def _drop_choices(self) -> bool:
        """Delta debugging: halves first, then ever smaller parts."""
        smaller = False
        size = len(self.keep)
        while size:
            numbers = sorted(self.keep)
            for begin in range(0, len(numbers), size):
                gone = set(numbers[begin : begin + size])
                rest = {number: answer for number, answer in self.keep.items() if number not in gone}
                if len(rest) < len(self.keep):
                    smaller |= self._fails(rest, self.dropped)
            size //= 2
        return smaller

    def _cut_events(self) -> bool:
        """Leave out what was chosen in some events, and let the later ones come so many events sooner."""
        smaller = False
        for event in sorted({number // A_EVENT for number in self.keep}, reverse=True):
            for count in (1, 2, 4):
                cut = {
                    number if number // A_EVENT < event else number - count * A_EVENT: answer
                    for number, answer in self.keep.items()
                    if not event <= number // A_EVENT < event + count
                }
                if len(cut) < len(self.keep) and self._fails(cut, self.dropped):
                    smaller = True
                    break
        return smaller

    def _lower_choices(self) -> bool:
        smaller = False
        for number, answer in sorted(self.keep.items()):
            if answer > 1 and self.keep.get(number) == answer:
                smaller |= self._fails(self.keep | {number: 1}, self.dropped)
        return smaller

    def command(self, *words: str) -> str:
        """What plays the smallest history again."""
        parts = ["scripts/simulate", *words, f"--seed {self.best.seed}", f"--keep '{written(self.keep)}'"]
        if self.dropped:
            parts.append(f"--drop {','.join(str(number) for number in sorted(self.dropped))}")
        return " ".join(parts)
