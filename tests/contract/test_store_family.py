"""R10, R132: the family of a session: spawned, continued, forked and run again, from wherever one asks."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, event, update

from celery_cascade.errors import SessionNotFound
from celery_cascade.persistence import tables
from celery_cascade.sessions.family import Member, tree_of, walk
from contract.kit import Kit


def link(kit: Kit, session: str, **columns: Any) -> str:
    if columns:
        statement = update(tables.sessions).where(tables.sessions.c.session_id == session).values(**columns)
        kit.database.transaction(lambda conn: conn.execute(statement))
    kit.clock.forward(1)
    return session


def family(kit: Kit) -> None:
    """top; its child and grandchild; a fork of the child, and a rerun of that; two later turns; a stranger."""
    link(kit, kit.start(session_id="top"))
    child = {"parent_session_id": "top", "root_session_id": "top", "depth": 1}
    link(kit, kit.start(session_id="child", **child))
    link(kit, kit.start(session_id="grandchild", **(child | {"parent_session_id": "child", "depth": 2})))
    link(kit, kit.start(session_id="fork"), forked_from="child", forked_step="a", forked_version=1, trigger="fork")
    link(kit, kit.start(session_id="rerun"), forked_from="fork", trigger="rerun")
    link(kit, kit.start(session_id="turn-1"), continues="top", conversation_id="top", turn=1)
    link(kit, kit.start(session_id="turn-2"), continues="turn-1", conversation_id="top", turn=2)
    link(kit, kit.start(session_id="stranger"))


def shape(top: Member) -> list[tuple[int, str, str | None]]:
    return [(len(lasts), member.row["session_id"], member.relation) for member, lasts in walk(top)]


TREE = [
    (0, "top", None),
    (1, "child", "child"),
    (2, "grandchild", "child"),
    (2, "fork", "fork"),
    (3, "rerun", "rerun"),
    (1, "turn-1", "continuation"),
    (1, "turn-2", "continuation"),
]


def test_the_whole_family_is_found_from_each_of_its_members(kit: Kit) -> None:
    family(kit)

    for _, asked, _ in TREE:
        assert shape(tree_of(kit.store.family(asked))) == TREE, asked
    assert shape(tree_of(kit.store.family("stranger"))) == [(0, "stranger", None)]
    with pytest.raises(SessionNotFound):
        kit.store.family("nobody")


def test_what_is_left_of_a_family_is_found_when_others_are_gone(kit: Kit) -> None:
    family(kit)
    gone = delete(tables.sessions).where(tables.sessions.c.session_id.in_(["top", "fork"]))
    kit.database.transaction(lambda conn: conn.execute(gone))

    assert shape(tree_of(kit.store.family("grandchild"))) == [(0, "child", None), (1, "grandchild", "child")]
    assert shape(tree_of(kit.store.family("rerun"))) == [(0, "rerun", None)]
    assert shape(tree_of(kit.store.family("turn-2"))) == [(0, "turn-1", None), (1, "turn-2", "continuation")]


def test_a_ring_that_somebody_has_made_by_hand_is_shown_and_ends(kit: Kit) -> None:
    for session, origin in (("a", "c"), ("b", "a"), ("c", "b")):
        link(kit, kit.start(session_id=session), forked_from=origin)

    assert sorted(name for _, name, _ in shape(tree_of(kit.store.family("b")))) == ["a", "b", "c"]


def test_a_family_takes_a_few_looks_a_generation_and_reads_no_payload(kit: Kit) -> None:
    """R10: hundreds of children cost no more looks than one."""
    link(kit, kit.start(session_id="top"))
    for number in range(30):
        kit.start(session_id=f"c{number}", parent_session_id="top", root_session_id="top", depth=1)
    looks: list[str] = []
    engine = kit.database._own

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        looks.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        assert len(kit.store.family("c7")) == 31
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len(looks) == 2 + 2 * 5
    assert not any("input_data" in look or "output" in look for look in looks)
