"""Every transitive need of every step, small enough for ten thousand steps.

A frozenset for each step of a chain of 10,000 would take gigabytes; one bit for each takes 12 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set


class Before(Set[str]):
    """The transitive needs of one step, as a set that holds bits instead of ids."""

    __slots__ = ("_bits", "_places")

    def __init__(self, places: Mapping[str, int], bits: int) -> None:
        self._places = places
        self._bits = bits

    @classmethod
    def _from_iterable(cls, ids: Iterator[str]) -> frozenset[str]:  # type: ignore[override]
        """What `&`, `|` and `-` give."""
        return frozenset(ids)

    def __contains__(self, step_id: object) -> bool:
        place = self._places.get(step_id) if isinstance(step_id, str) else None
        return place is not None and bool(self._bits >> place & 1)

    def __iter__(self) -> Iterator[str]:
        return (step_id for step_id, place in self._places.items() if self._bits >> place & 1)

    def __len__(self) -> int:
        return self._bits.bit_count()


def ancestors(needs: Mapping[str, tuple[str, ...]]) -> dict[str, Before]:
    """The transitive needs by step id, in topological order so that a long chain needs no recursion.

    Args:
        needs: id -> its direct needs, all known and without a circle.
    """
    places = {step_id: place for place, step_id in enumerate(needs)}
    followers: dict[str, list[str]] = {step_id: [] for step_id in needs}
    for step_id, wanted in needs.items():
        for need in wanted:
            followers[need].append(step_id)
    left = {step_id: len(wanted) for step_id, wanted in needs.items()}
    ready = [step_id for step_id, count in left.items() if count == 0]
    bits: dict[str, int] = {}
    while ready:
        step_id = ready.pop()
        bits[step_id] = 0
        for need in needs[step_id]:
            bits[step_id] |= bits[need] | 1 << places[need]
        for follower in followers[step_id]:
            left[follower] -= 1
            if left[follower] == 0:
                ready.append(follower)
    return {step_id: Before(places, found) for step_id, found in bits.items()}
