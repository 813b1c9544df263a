"""The family of a session as a tree: what its steps have started, its later turns, its forks and reruns (R10, R132)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_cascade.persistence.rows import Row
from celery_cascade.sessions.ids import look_up_id
from celery_cascade.sessions.view import iso
from celery_cascade.tasks.runtime import Runtime


@dataclass(slots=True)
class Member:
    """One session of a family.

    Attributes:
        row: as `Store.family` has it.
        relation: to the one above: `child`, `fork`, `rerun`, `continuation`; None = it is the top, or what it came
            from is gone.
        below: those that came from it, oldest first.
    """

    row: Row
    relation: str | None = None
    below: list[Member] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """It without those below it."""
        row, relation = self.row, self.relation
        step = row["parent_step"] if relation == "child" else row["forked_step"]
        return {
            "session_id": row["session_id"],
            "cascade_id": row["cascade_id"],
            "name": row["name"],
            "status": row["status"],
            "reason": row["status_reason"],
            "relation": relation,
            "step": step,
            "version": row["forked_version"],
            "turn": row["turn"],
            "created_at": iso(row["created_at"]),
        }


def family_of(runtime: Runtime, session_id: str) -> Member:
    """The family of a session, from the one that all others come from. Raises SessionNotFound."""
    return tree_of(runtime.store.family(look_up_id(runtime.store, session_id)))


def tree_of(rows: Sequence[Row]) -> Member:
    """The rows of one family, oldest first, as a tree."""
    members = {row["session_id"]: Member(row) for row in rows}
    links = {one: _above(member.row, members) for one, member in members.items()}
    top = next((one for one, (above, _) in links.items() if above is None), rows[0]["session_id"])
    for one, (above, relation) in links.items():
        if one != top:
            members[one].relation = relation
            members[above or top].below.append(members[one])
    reached = {member.row["session_id"] for member, _ in walk(members[top])}
    for one in members.keys() - reached:  # a ring, which nobody but a SQL client can make
        members[top].below.append(Member(members[one].row))
    return members[top]


def _above(row: Row, members: Mapping[str, Member]) -> tuple[str | None, str | None]:
    """Which session a session is shown under, and as what; turns of a conversation beside each other."""
    own = row["session_id"]
    ways = (
        (row["parent_session_id"], "child"),
        (row["forked_from"], "rerun" if row["trigger"] == "rerun" else "fork"),
        (row["conversation_id"] if row["continues"] else None, "continuation"),
        (row["continues"], "continuation"),
    )
    return next(((one, word) for one, word in ways if one in members and one != own), (None, None))


def walk(top: Member) -> Iterator[tuple[Member, tuple[bool, ...]]]:
    """Every member with, for it and each one above it but the top, whether it is the last of its siblings."""
    waiting: list[tuple[Member, tuple[bool, ...]]] = [(top, ())]
    while waiting:
        member, lasts = waiting.pop()
        yield member, lasts
        count = len(member.below)
        waiting += [(one, (*lasts, number == count)) for number, one in reversed(list(enumerate(member.below, 1)))]
