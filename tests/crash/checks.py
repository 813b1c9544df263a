"""What must be so after a run, whatever was crashed in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from celery_cascade.persistence import tables
from celery_cascade.persistence.store import Store

_OF_SESSIONS = (tables.heads, tables.steps, tables.attempts, tables.actions, tables.messages, tables.signals)
#: Whose rows bear the versions of a session.
_BEARERS = (tables.steps, tables.attempts, tables.actions, tables.messages, tables.context_changes)


class Violation(AssertionError):
    """A promise was broken. `kind` is what the record counts it as: lost, stuck, repeated or wrong."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Seen:
    """A session as SQL and the effects show it."""

    status: str | None  #: None = there is no such session
    output: str | None
    version: int
    steps: dict[str, str]  #: step -> status
    effects: Counter[str]  #: step -> how often its body had its effect
    shared: Sequence[tuple[Any, ...]] = ()  #: each change of its context and each message: its step, what it is

    @property
    def done(self) -> set[str]:
        """The steps that are checkpointed."""
        return {step for step, status in self.steps.items() if status in ("succeeded", "failed", "skipped")}


def effects_in(path: Path, session_id: str) -> Counter[str]:
    """How often the body of each step had its effect."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return Counter(line[1] for line in lines if line[0] == session_id)


def status_of(store: Store, session_id: str) -> str | None:
    """Where the session stands; None if there is none."""
    with store.database.read() as conn:
        return conn.execute(sa.select(tables.heads.c.status).where(tables.heads.c.session_id == session_id)).scalar()


def look(store: Store, session_id: str, effects: Path) -> Seen:
    """The session as it is now."""
    with store.database.read() as conn:
        head = conn.execute(sa.select(tables.heads).where(tables.heads.c.session_id == session_id)).one_or_none()
        rows = conn.execute(
            sa.select(tables.steps.c.step, tables.steps.c.status).where(tables.steps.c.session_id == session_id)
        ).all()
        shared = _shared(conn, session_id)
    steps = {row.step: row.status for row in rows}
    seen = effects_in(effects, session_id)
    if head is None:
        return Seen(None, None, 0, steps, seen)
    return Seen(head.status, head.output, head.version, steps, seen, shared)


def _shared(conn: sa.Connection, session_id: str) -> Sequence[tuple[Any, ...]]:
    """In the order of their versions, which differ: a lost attempt takes one too."""
    changes, said = tables.context_changes.c, tables.messages.c
    both = sa.union_all(
        sa.select(changes.version, sa.literal(0), changes.step, changes.delta, sa.null()).where(
            changes.session_id == session_id
        ),
        sa.select(said.version, said.seq, said.step, said.role, said.content).where(said.session_id == session_id),
    ).order_by(sa.literal_column("1"), sa.literal_column("2"))
    return [tuple(row)[1:] for row in conn.execute(both)]


def check_end(end: Seen, undisturbed: Seen) -> None:
    """Nothing was lost: the end is that of the run that nobody disturbed."""
    if end.status != undisturbed.status or end.output != undisturbed.output:
        raise Violation(
            "lost", f"the session is {end.status} with {end.output}, not {undisturbed.status} with {undisturbed.output}"
        )
    if end.steps != undisturbed.steps:
        raise Violation("lost", f"its steps are {end.steps}, not {undisturbed.steps}")
    if end.shared != undisturbed.shared:
        raise Violation("wrong", f"its changes and messages are {end.shared}, not {undisturbed.shared}")


def check_effects(before: Seen, after: Seen) -> None:
    """Nothing that was checkpointed at the crash has run since."""
    for step in sorted(before.done):
        if after.effects[step] != before.effects[step]:
            raise Violation(
                "repeated",
                f"step {step} was checkpointed when the crash came and has run again: "
                f"{before.effects[step]} effects then, {after.effects[step]} now",
            )


def check_repeats(end: Seen, undisturbed: Seen, crashes: int, *, all_ran: bool) -> None:
    """A crash makes the steps that ran then run once more, and nothing run twice more.

    Where a race decides which steps run (`all_ran` False), one that did not run undisturbed may have run here.
    """
    once = 0 if all_ran else 1
    for step, count in sorted(end.effects.items()):
        most = max(undisturbed.effects[step], once) + crashes
        if count > most:
            raise Violation("repeated", f"step {step} had {count} effects; with {crashes} crashes at most {most}")
    for step, count in sorted(undisturbed.effects.items()) if all_ran else ():
        if end.effects[step] < 1 or (crashes == 0 and end.effects[step] != count):
            raise Violation("lost", f"step {step} had {end.effects[step]} effects, undisturbed {count}")


def check_beside(end: Seen, other: Seen, taken: frozenset[str]) -> None:
    """A session with nothing different has come to the same end, and has not run what it took over; the rest once.

    None of its bodies was under way when something crashed. `flaky` and `again` have two effects by themselves.
    """
    if (other.status, other.output) != (end.status, end.output):
        raise Violation("lost", f"one is {end.status} with {end.output}, the other {other.status} with {other.output}")
    if other.steps != end.steps:
        raise Violation("lost", f"the steps of one are {end.steps}, of the other {other.steps}")
    ran = {step: 2 if step in ("flaky", "again") else 1 for step in end.steps if step not in taken | {"never"}}
    if dict(other.effects) != ran:
        raise Violation("repeated", f"its effects are {dict(other.effects)}, not {ran}")


def check_history(store: Store, session_id: str) -> None:
    """R23: every version of the session is borne by a row; that of a plain completion by the head alone."""
    with store.database.read() as conn:
        head = conn.execute(sa.select(tables.heads).where(tables.heads.c.session_id == session_id)).one()
        bear = {1, head.version} if head.status == "completed" else {1}
        for table in _BEARERS:
            bear |= set(conn.execute(sa.select(table.c.version).where(table.c.session_id == session_id)).scalars())
    missing = sorted(set(range(1, head.version + 1)) - bear)
    beyond = sorted(version for version in bear if version > head.version)
    if missing or beyond:
        raise Violation("wrong", f"the history of {session_id} lacks versions {missing} and has {beyond} too many")


def check_rows(store: Store) -> None:
    """No row without its session, nothing that runs, waits to be sent or is open after the end."""
    with store.database.read() as conn:
        for table in _OF_SESSIONS:
            without = sa.select(sa.func.count()).select_from(table).where(
                table.c.session_id.not_in(sa.select(tables.sessions.c.session_id))
            )  # fmt: skip
            if count := conn.execute(without).scalar():
                raise Violation("wrong", f"{count} rows of {table.name} have no session")
        ended = sa.select(tables.heads.c.session_id).where(tables.heads.c.status != "active")
        moving = sa.select(tables.steps).where(
            tables.steps.c.session_id.in_(ended), tables.steps.c.status.in_(["running", "waiting"])
        )
        if rows := conn.execute(moving).all():
            raise Violation("stuck", f"steps of ended sessions still move: {[(r.step, r.status) for r in rows]}")
        without_head = sa.select(tables.sessions.c.session_id).where(
            tables.sessions.c.session_id.not_in(sa.select(tables.heads.c.session_id))
        )
        if rows := conn.execute(without_head).all():
            raise Violation("wrong", f"sessions without a head: {[row.session_id for row in rows]}")
        open_steps = conn.execute(
            sa.select(tables.heads.c.session_id, tables.heads.c.open_steps).where(
                tables.heads.c.status == "completed", tables.heads.c.open_steps != 0
            )
        ).all()
        if open_steps:
            raise Violation("wrong", f"completed with open steps: {[tuple(row) for row in open_steps]}")


def everything(store: Store, session_id: str) -> list[Any]:
    """Every row of a session, to see that none of them changes."""
    rows: list[Any] = []
    with store.database.read() as conn:
        for table in _OF_SESSIONS:
            found = conn.execute(sa.select(table).where(table.c.session_id == session_id)).all()
            rows += sorted(repr((table.name, tuple(row))) for row in found)
    return rows
