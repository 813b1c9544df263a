"""Deleting finished sessions after their retention (D9), in batches, and whatever nothing refers to any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, false, func, not_, or_, select
from sqlalchemy.exc import IntegrityError

from celery_cascade.persistence.clock import after
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.tables import definitions, heads, mappings, sessions, steps


def prunable(
    db: Database, ages: Mapping[str, timedelta | None], *, keep_last: int, limit: int, clock: dict[str, Any]
) -> list[tuple[str, str]]:
    """(session id, status) of finished sessions that may go, oldest first.

    Args:
        ages: final status -> age since the end; None or missing = such sessions stay.
        keep_last: the newest finished sessions of each cascade stay whatever their age.
        limit: most sessions returned; only a single tree that is larger goes beyond it.

    Pinned sessions and sessions whose thread was used within the age stay, and so does every tree of sessions
    that has one which stays.
    """
    kept = _kept(keep_last)
    may_go, parameters = _may_go(heads, ages, kept)
    relative, relative_head = sessions.alias("relative"), heads.alias("relative_head")
    relative_may_go, _ = _may_go(relative_head, ages, kept)
    family_stays = (
        select(relative.c.session_id)
        .join_from(relative, relative_head, relative_head.c.session_id == relative.c.session_id)
        .where(
            relative.c.root_session_id == sessions.c.root_session_id,
            relative.c.session_id != sessions.c.session_id,
            or_(relative_head.c.finished_at.is_(None), not_(relative_may_go)),
        )
        .exists()
    )
    statement = _with_roots().where(may_go, ~family_stays).order_by(heads.c.finished_at).limit(limit)
    with db.read() as conn:
        rows = conn.execute(statement, clock | parameters).all()
        if len(rows) == limit:
            roots = list(dict.fromkeys(row.root for row in rows))
            rows = _whole_trees(roots, conn.execute(_with_roots().where(_in_trees(roots))).all(), limit)
    return [(row.session_id, row.status) for row in rows]


_ROOT = func.coalesce(sessions.c.root_session_id, sessions.c.session_id)


def _with_roots() -> Any:
    return select(heads.c.session_id, heads.c.status, _ROOT.label("root")).select_from(
        heads.join(sessions, sessions.c.session_id == heads.c.session_id)
    )


def _in_trees(roots: list[str]) -> Any:
    alone = and_(sessions.c.root_session_id.is_(None), sessions.c.session_id.in_(roots))
    return or_(sessions.c.root_session_id.in_(roots), alone)


def _whole_trees(roots: list[str], members: Sequence[Any], limit: int) -> list[Any]:
    """The first trees that fit into `limit`, one at least, none of them cut."""
    trees: dict[str, list[Any]] = {root: [] for root in roots}
    for row in members:
        trees[row.root].append(row)
    chosen: list[Any] = []
    for tree in trees.values():
        if chosen and len(chosen) + len(tree) > limit:
            break
        chosen += tree
    return chosen


def _may_go(head: Any, ages: Mapping[str, timedelta | None], kept: Any) -> tuple[Any, dict[str, Any]]:
    """Whether nothing about this one session keeps it."""
    due: list[Any] = []
    parameters: dict[str, Any] = {}
    for status, age in ages.items():
        if age is None:
            continue
        name = f"b_age_{status}"
        parameters[name] = -age.total_seconds()
        thread_in_use = (
            select(mappings.c.session_id)
            .where(mappings.c.session_id == head.c.session_id, mappings.c.updated_at > after(name))
            .exists()
        )
        due.append(and_(head.c.status == status, head.c.finished_at < after(name), ~thread_in_use))
    conditions = [or_(false(), *due), head.c.pinned == 0]
    if kept is not None:
        conditions.append(head.c.session_id.not_in(select(kept.c.session_id)))
    return and_(*conditions), parameters


def _kept(keep_last: int) -> Any:
    """The newest finished sessions of each cascade."""
    if keep_last <= 0:
        return None
    place = (
        func.row_number()
        .over(partition_by=sessions.c.cascade_id, order_by=(heads.c.finished_at.desc(), heads.c.session_id.desc()))
        .label("place")
    )
    inner = (
        select(heads.c.session_id, place)
        .select_from(heads.join(sessions, sessions.c.session_id == heads.c.session_id))
        .where(heads.c.finished_at.is_not(None))
        .subquery("placed")
    )
    return select(inner.c.session_id).where(inner.c.place <= keep_last).subquery("kept")


def delete_sessions(db: Database, session_ids: list[str]) -> int:
    """Delete finished sessions with all that belongs to them; a tree of which one came back to life stays."""
    if not session_ids:
        return 0

    def work(conn: Connection) -> int:
        locked = _lock_heads(sorted(session_ids)).where(heads.c.finished_at.is_not(None))
        finished = list(conn.execute(locked).scalars())
        roots = {row.session_id: row.root for row in conn.execute(_with_roots().where(_one_of(finished)))}
        lives = _with_roots().where(_in_trees(list(roots.values())), heads.c.finished_at.is_(None))
        alive = {row.root for row in conn.execute(lives)}
        gone = [session_id for session_id in finished if roots[session_id] not in alive]
        _delete(conn, gone)
        return len(gone)

    return db.transaction(work)


def delete_session(db: Database, session_id: str) -> None:
    """Delete one session whatever its status."""

    def work(conn: Connection) -> None:
        conn.execute(_lock_heads([session_id]))
        _delete(conn, [session_id])

    db.transaction(work)


def _one_of(session_ids: list[str]) -> Any:
    return heads.c.session_id.in_(session_ids)


def _lock_heads(session_ids: list[str]) -> Any:
    return select(heads.c.session_id).where(_one_of(session_ids)).order_by(heads.c.session_id).with_for_update()


def _delete(conn: Connection, session_ids: list[str]) -> None:
    conn.execute(delete(mappings).where(mappings.c.session_id.in_(session_ids)))
    conn.execute(delete(steps).where(steps.c.session_id.in_(session_ids)))
    conn.execute(delete(sessions).where(sessions.c.session_id.in_(session_ids)))


def forget_definitions(db: Database, *, limit: int, clock: dict[str, Any]) -> int:
    """Delete definitions that no session refers to, an hour old at least (a start may be about to use a younger)."""
    used = select(sessions.c.session_id).where(sessions.c.definition_digest == definitions.c.digest).exists()
    unused = select(definitions.c.digest).where(~used, definitions.c.first_seen_at < after("b_hour")).limit(limit)

    def work(conn: Connection) -> int:
        digests = list(conn.execute(unused, clock | {"b_hour": -3600.0}).scalars())
        if not digests:
            return 0
        gone = delete(definitions).where(definitions.c.digest.in_(bindparam("b_digests", expanding=True)), ~used)
        return int(conn.execute(gone, {"b_digests": digests}).rowcount)

    try:
        return db.transaction(work)
    except IntegrityError:  # a start took one of them in this moment; the next prune looks again
        return 0
