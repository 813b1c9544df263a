"""Deleting sessions with all that belongs to them: a tree at a time, its heads locked first (rule 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import starmap
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, bindparam, delete, select, union_all
from sqlalchemy.sql.elements import ColumnElement

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.prune_rules import ROOT, Rules
from celery_cascade.persistence.queueing import hand_back
from celery_cascade.persistence.tables import heads, mappings, sessions, steps
from celery_cascade.persistence.views import not_found

T = TypeVar("T")
#: Ids that one statement names at most: drivers and databases have a limit for parameters.
MOST_IDS = 1000


class Member(NamedTuple):
    """One session of a tree. `status` is None where there is no head."""

    session_id: str
    root: str
    status: str | None
    halt: str | None
    pinned: int | None
    cascade_id: str | None
    total_steps: int | None
    goes: int = 0


def _members_of(goes: ColumnElement[int] | None) -> Any:
    columns: list[Any] = [  # in the order of Member
        sessions.c.session_id,
        ROOT.label("root"),
        heads.c.status,
        heads.c.halt,
        heads.c.pinned,
        sessions.c.cascade_id,
        heads.c.total_steps,
    ]
    if goes is not None:
        columns.append(goes.label("goes"))
    all_of = select(*columns).select_from(sessions.outerjoin(heads, heads.c.session_id == sessions.c.session_id))
    roots: Any = bindparam("b_roots", expanding=True)
    # Two looks, each by its index: OR over both columns would read the table on some databases.
    return union_all(
        all_of.where(sessions.c.root_session_id.in_(roots)),
        all_of.where(sessions.c.session_id.in_(roots), sessions.c.root_session_id.is_(None)),
    )


_MEMBERS = _members_of(None)


def members(
    conn: Connection, roots: Sequence[str], rules: Rules | None = None, clock: dict[str, Any] | None = None
) -> dict[str, list[Member]]:
    """Root -> every session of its tree; with `rules`, whether each may go."""
    trees: dict[str, list[Member]] = {root: [] for root in roots}
    statement = _MEMBERS if rules is None else _members_of(rules.goes())
    parameters = {} if rules is None else (clock or {}) | rules.parameters
    for some in chunks(roots):
        for one in starmap(Member, conn.execute(statement, parameters | {"b_roots": some}).all()):
            trees[one.root].append(one)
    return trees


def lock_heads(conn: Connection, session_ids: Sequence[str], *, skip_held: bool = False) -> set[str]:
    """Lock the heads of these sessions, in the order of their ids; which of them were there to be locked."""
    statement = (
        select(heads.c.session_id)
        .where(heads.c.session_id.in_(bindparam("b_ids", expanding=True)))
        .order_by(heads.c.session_id)
        .with_for_update(skip_locked=skip_held)
    )
    locked: set[str] = set()
    for some in chunks(sorted(session_ids)):
        locked.update(conn.execute(statement, {"b_ids": some}).scalars())
    return locked


_ERASE = [
    delete(table).where(table.c.session_id.in_(bindparam("b_ids", expanding=True)))
    for table in (mappings, steps, sessions)
]


def erase(conn: Connection, session_ids: Sequence[str]) -> None:
    """Delete the rows: the thread mappings, the steps, and the sessions, whose foreign keys take the rest along."""
    for some in chunks(session_ids):
        for table in (mappings, steps, sessions):
            conn.execute(
                delete(table).where(table.c.session_id.in_(bindparam("b_ids", expanding=True))), {"b_ids": some}
            )


def tree_of(db: Database, session_id: str) -> list[Member]:
    """The whole tree that a session belongs to. Raises SessionNotFound."""
    with db.read() as conn:
        return _tree_of(db, conn, session_id)


def _tree_of(db: Database, conn: Connection, session_id: str) -> list[Member]:
    root = conn.execute(select(ROOT).where(sessions.c.session_id == session_id)).scalar()
    if root is None:
        raise not_found(db, session_id)
    return members(conn, [root])[root]


def delete_tree(db: Database, session_id: str, check: Callable[[list[Member]], None]) -> list[str]:
    """Delete the tree of a session by hand; the ids that are gone.

    Args:
        check: looks at the tree while nobody else can change it, and raises what forbids the deletion.
    """

    def work(conn: Connection) -> list[str]:
        lock_heads(conn, [one.session_id for one in _tree_of(db, conn, session_id)])
        found = _tree_of(db, conn, session_id)
        check(found)
        ids = [one.session_id for one in found]
        for some in chunks(ids):
            hand_back(conn, some)
        erase(conn, ids)
        return ids

    return db.transaction(work)


def delete_session(db: Database, session_id: str) -> None:
    """Delete one session whatever its status and its tree, if it is there."""

    def work(conn: Connection) -> None:
        lock_heads(conn, [session_id])
        hand_back(conn, [session_id])
        erase(conn, [session_id])

    db.transaction(work)


def chunks(ids: Sequence[T], size: int = MOST_IDS) -> Iterator[Sequence[T]]:
    """The ids in parts that one statement takes."""
    for first in range(0, len(ids), size):
        yield ids[first : first + size]
