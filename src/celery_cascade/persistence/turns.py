"""Which sessions a conversation is made of, as one of them sees it (D12). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Turn(NamedTuple):
    """A session of a conversation: its number there, and which session it goes on from."""

    session_id: str
    turn: int
    continues: str | None


def turns_up_to(me: Turn, earlier: Iterable[Turn]) -> list[str]:
    """The sessions whose messages belong to the conversation up to `me`, in their order.

    Of several with the same number (a fork, and what it was made from) it is the one that was continued. One that was
    deleted leaves a gap.
    """
    by_number: dict[int, list[Turn]] = {}
    for one in earlier:
        if one.turn < me.turn:
            by_number.setdefault(one.turn, []).append(one)
    line, before = [me], me.continues
    for number in sorted(by_number, reverse=True):
        several = by_number[number]
        found = next((one for one in several if one.session_id == before), None)
        found = found or min(several)
        line.append(found)
        before = found.continues
    return [one.session_id for one in reversed(line)]
