"""One prune (D9): a single walk over the finished sessions, oldest first, that deletes tree by tree in batches.

Its cost is bounded: each finished session past its age is met once, by index; the newest of a cascade are looked up
once a cascade. Two prunes at once do no harm: what one holds the other leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, or_, select
from sqlalchemy.sql.elements import ColumnElement

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.persistence.clock import after
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.deleting import Member, chunks, erase, lock_heads, members
from celery_cascade.persistence.prune_rules import EARLIEST, IS_ROOT, LATEST, ROOT, ROOTS, Rules
from celery_cascade.persistence.tables import heads, sessions
from celery_cascade.persistence.types import StoredMoment

Tree = list[Member]
#: Steps that one transaction deletes at most, unless a single tree has more.
MOST_STEPS = 20_000
_SUSPENDED = "suspended"


class Pruning:
    """One prune.

    Args:
        batch: most sessions in one transaction; a single tree that is larger goes in one of its own.
        clock: the store's.
    """

    def __init__(self, db: Database, rules: Rules, *, batch: int, clock: Callable[[], dict[str, Any]]) -> None:
        self._db = db
        self._rules = rules
        self._batch = batch
        self._clock = clock
        self._kept: dict[str | None, frozenset[str]] = {}

    def batches(self) -> Iterator[list[Tree]]:
        """Trees that may go, whole, oldest root first; as many at a time as one transaction may take."""
        final = tuple(status for status in self._rules.seconds if status != _SUSPENDED)
        if final:
            yield from self._walk(heads.c.finished_at, final)
        if _SUSPENDED in self._rules.seconds:
            yield from self._walk(heads.c.created_at, (_SUSPENDED,))

    def delete(self, trees: Sequence[Tree]) -> list[Member]:
        """Delete a batch in one transaction; who is gone. Whatever came back to life, was pinned, or is held by
        somebody else stays, with its whole tree.
        """
        roots = [tree[0].root for tree in trees]

        def work(conn: Connection) -> list[Member]:
            locked = lock_heads(conn, [one.session_id for tree in trees for one in tree], skip_held=True)
            again = members(conn, roots, self._rules, self._clock()).values()
            gone = [one for tree in again if all(m.goes and m.session_id in locked for m in tree) for one in tree]
            erase(conn, [one.session_id for one in gone])
            reached(CrashPoint.PRUNE_OPEN)
            return gone

        return self._db.transaction(work)

    def _walk(self, moment: ColumnElement[Any], statuses: tuple[str, ...]) -> Iterator[list[Tree]]:
        first, following = self._page(moment, statuses)
        statement = first
        position: dict[str, Any] = {}
        while True:
            with self._db.read() as conn:
                page = conn.execute(statement, self._parameters | position).all()
                roots = self._roots(conn, [row.session_id for row in page])
                trees = members(conn, roots, self._rules, self._clock())
                going = [tree for tree in trees.values() if self._goes(conn, tree)]
            yield from _fitting(going, self._batch)
            if len(page) < self._batch:
                return
            statement, position = following, {"b_moment": page[-1].moment, "b_id": page[-1].id}

    @property
    def _parameters(self) -> dict[str, Any]:
        return self._clock() | self._rules.parameters

    def _page(self, moment: ColumnElement[Any], statuses: tuple[str, ...]) -> tuple[Any, Any]:
        """The statements for the first page and those that follow; of heads alone, so that planners see the index."""
        stored = StoredMoment.of(moment)
        found = (
            select(heads.c.id, heads.c.session_id, stored.label("moment"))
            .where(moment < self._latest(), self._rules.due(statuses))
            .order_by(moment, heads.c.id)
            .limit(self._batch)
        )
        if statuses == (_SUSPENDED,):
            found = found.where(heads.c.status == _SUSPENDED)
        for dialect in ("mysql", "mariadb"):  # they would rather sort all that is due, for each page
            found = found.with_hint(heads, f"FORCE INDEX ({_INDEX[moment.name]})", dialect)
        last = bindparam("b_moment", type_=StoredMoment())
        following = found.where(stored >= last, or_(stored > last, heads.c.id > bindparam("b_id")))
        return found.where(moment >= EARLIEST), following  # one lower bound each: of two, SQLite may use the lesser

    def _roots(self, conn: Connection, session_ids: Sequence[str]) -> list[str]:
        """Those of these sessions at which a tree is to be found, as the ids of its root."""
        found: dict[str, str] = {}
        statement = (
            _ROOTS if self._rules.cascade is None else _ROOTS.where(sessions.c.cascade_id == self._rules.cascade)
        )
        for some in chunks(session_ids):
            found |= {row.session_id: row.root for row in conn.execute(statement, {"b_ids": some})}
        return list(dict.fromkeys(found[session_id] for session_id in session_ids if session_id in found))

    def _latest(self) -> ColumnElement[Any]:
        """No finished session after this moment may go."""
        if self._rules.since == "updated_at":
            return after(LATEST)  # a session may be changed after its end, and by hand to any moment
        return after(max(self._rules.seconds.values()))

    def _goes(self, conn: Connection, tree: Tree) -> bool:
        stays = (not one.goes or one.session_id in self._newest(conn, one.cascade_id) for one in tree)
        return bool(tree) and not any(stays)  # no tree: somebody deleted it since the page was read

    def _newest(self, conn: Connection, cascade_id: str | None) -> frozenset[str]:
        """The finished sessions of a cascade that stay whatever their age; looked up once a prune."""
        if self._rules.keep_last <= 0:
            return frozenset()
        if cascade_id not in self._kept:
            parameters = self._clock() | {"b_cascade": cascade_id, "b_keep": self._rules.keep_last}
            statement = _NEWEST_WITHOUT if cascade_id is None else _NEWEST
            self._kept[cascade_id] = frozenset(conn.execute(statement, parameters).scalars())
        return self._kept[cascade_id]


_ROOTS = (
    select(sessions.c.session_id, ROOT.label("root"))
    .select_from(sessions.outerjoin(ROOTS, ROOTS.c.session_id == sessions.c.root_session_id))
    .where(sessions.c.session_id.in_(bindparam("b_ids", expanding=True)), IS_ROOT)
)
_INDEX = {"finished_at": "ix_session_states_finished_at", "created_at": "ix_session_states_status_created_at"}
_FINISHED = (
    select(sessions.c.session_id)
    .select_from(sessions.join(heads, heads.c.session_id == sessions.c.session_id))
    .where(
        heads.c.finished_at.is_not(None),
        sessions.c.created_at >= EARLIEST,  # a broken moment makes nothing the newest
        sessions.c.created_at < after(LATEST),
    )
    .order_by(sessions.c.created_at.desc(), sessions.c.session_id.desc())
    .limit(bindparam("b_keep"))
)
_NEWEST = _FINISHED.where(sessions.c.cascade_id == bindparam("b_cascade"))
_NEWEST_WITHOUT = _FINISHED.where(sessions.c.cascade_id.is_(None))


def _fitting(trees: Sequence[Tree], batch: int) -> Iterator[list[Tree]]:
    """The trees in parts that one transaction may take, none of them cut."""
    part: list[Tree] = []
    size = weight = 0
    for tree in trees:
        steps = sum(one.total_steps or 0 for one in tree)
        if part and (size + len(tree) > batch or weight + steps > MOST_STEPS):
            yield part
            part, size, weight = [], 0, 0
        part.append(tree)
        size, weight = size + len(tree), weight + steps
    if part:
        yield part
