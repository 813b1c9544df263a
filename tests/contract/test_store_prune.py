"""Retention (D9): what goes, what stays, in batches and trees."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from sqlalchemy import insert, update

from celery_cascade.persistence import tables
from celery_cascade.states import Halt
from contract.kit import Kit, queued

DAYS = timedelta(days=1)
AGES = {"completed": 7 * DAYS, "cancelled": 7 * DAYS, "expired": 7 * DAYS, "failed": 30 * DAYS}


def ended(kit: Kit, status: str = "completed", **new: Any) -> str:
    session = kit.start(**new)
    if status == "completed":
        kit.run(session)
        kit.complete(session)
    elif status != "active":
        kit.store.halt(session, Halt(status), None)
        kit.store.settle(session)
    assert kit.head(session)["status"] == status
    return session


def prunable(
    kit: Kit, ages: dict[str, timedelta | None] | None = None, keep_last: int = 0, limit: int = 100
) -> list[str]:
    found = kit.store.prunable(AGES if ages is None else ages, keep_last=keep_last, limit=limit)
    return [session for session, _ in found]


def test_each_status_goes_at_its_own_age(kit: Kit) -> None:
    """D9: 7 days, failed ones 30."""
    sessions = {status: ended(kit, status) for status in ("completed", "cancelled", "expired", "failed")}
    never = [ended(kit, "active"), ended(kit, "suspended")]

    kit.clock.forward(days=7)
    assert prunable(kit) == []
    kit.clock.forward(1)
    assert sorted(prunable(kit)) == sorted(sessions[status] for status in ("completed", "cancelled", "expired"))
    kit.clock.forward(days=23)
    assert sorted(prunable(kit)) == sorted(sessions.values())
    kit.clock.forward(days=4000)
    assert not set(never) & set(prunable(kit))
    assert dict(kit.store.prunable(AGES, keep_last=0, limit=9)) == {
        session: status for status, session in sessions.items()
    }


def test_an_age_of_none_and_a_missing_status_keep(kit: Kit) -> None:
    done, failed = ended(kit), ended(kit, "failed")
    kit.clock.forward(days=100)

    assert prunable(kit, {"completed": None, "failed": DAYS}) == [failed]
    assert prunable(kit, {"completed": DAYS}) == [done]
    assert prunable(kit, {}) == []
    assert prunable(kit, {"completed": None}) == []


def test_the_newest_of_each_cascade_stay_whatever_their_age(kit: Kit) -> None:
    """D9: the newest 20 finished sessions of each cascade."""
    orders, etls = [], []
    for _ in range(5):
        orders.append(ended(kit, cascade_id="order"))
        etls.append(ended(kit, cascade_id="etl"))
        kit.clock.forward(1)
    newest = ended(kit, "failed", cascade_id="order")
    kit.clock.forward(days=400)

    assert sorted(prunable(kit, keep_last=2)) == sorted(orders[:4] + etls[:3])
    assert newest not in prunable(kit, keep_last=1)
    assert len(prunable(kit, keep_last=0)) == 11


def test_a_pinned_session_stays(kit: Kit) -> None:
    """D9: session.keep()."""
    pinned, loose = ended(kit), ended(kit)
    pin(kit, pinned)
    kit.clock.forward(days=100)
    assert prunable(kit) == [loose]


def pin(kit: Kit, session: str) -> None:
    statement = update(tables.heads).where(tables.heads.c.session_id == session).values(pinned=1)
    kit.database.transaction(lambda conn: conn.execute(statement))


def test_a_session_whose_thread_was_used_within_the_period_stays(kit: Kit) -> None:
    """D9."""
    used, unused = ended(kit), ended(kit)
    kit.clock.forward(days=20)
    values = [
        {
            "thread_id": session,
            "resource_id": "r",
            "session_id": session,
            "created_at": kit.clock() - 20 * DAYS,
            "updated_at": kit.clock() - days * DAYS,
        }
        for session, days in ((used, 2), (unused, 9))
    ]
    kit.database.transaction(lambda conn: conn.execute(insert(tables.mappings), values))

    assert prunable(kit) == [unused]
    assert kit.store.delete_sessions([unused]) == 1
    assert kit.column(tables.mappings.c.session_id) == [used]


def tree(kit: Kit, *statuses: str) -> list[str]:
    root = ended(kit, statuses[0])
    return [root] + [
        ended(kit, status, root_session_id=root, parent_session_id=root, depth=1) for status in statuses[1:]
    ]


@pytest.mark.parametrize("stays", ["active", "suspended", "failed"])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_tree_goes_whole_or_not_at_all(kit: Kit, stays: str, where: int) -> None:
    """D9: one that lives, or has not served its time, keeps all."""
    whole = tree(kit, "completed", "completed", "cancelled")
    statuses = ["completed"] * 3
    statuses[where] = stays
    tree(kit, *statuses)
    kit.clock.forward(days=10)

    assert sorted(prunable(kit)) == sorted(whole)


def test_a_tree_with_a_pinned_or_newest_session_stays(kit: Kit) -> None:
    pinned = tree(kit, "completed", "completed")
    pin(kit, pinned[1])
    kit.clock.forward(1)
    newest = tree(kit, "completed", "completed")
    kit.clock.forward(days=10)

    assert sorted(prunable(kit)) == sorted(newest)
    assert prunable(kit, keep_last=1) == []


def test_a_batch_is_limited_and_cuts_no_tree(kit: Kit) -> None:
    trees = []
    for _ in range(3):
        trees.append(tree(kit, "completed", "completed", "completed"))
        kit.clock.forward(1)
    alone = ended(kit)
    kit.clock.forward(days=10)

    assert sorted(prunable(kit, limit=5)) == sorted(trees[0])
    assert sorted(prunable(kit, limit=6)) == sorted(trees[0] + trees[1])
    assert sorted(prunable(kit, limit=2)) == sorted(trees[0]), "a tree larger than the batch goes by itself"
    gone: list[str] = []
    while found := prunable(kit, limit=4):
        assert kit.store.delete_sessions(found) == len(found)
        gone += found
    assert sorted(gone) == sorted([*chain(*trees), alone])


def test_the_oldest_go_first(kit: Kit) -> None:
    sessions = []
    for _ in range(4):
        sessions.append(ended(kit))
        kit.clock.forward(1)
    kit.clock.forward(days=10)
    assert prunable(kit) == sessions
    assert prunable(kit, limit=2) == sessions[:2]


def test_a_deleted_session_leaves_nothing_behind(kit: Kit) -> None:
    session, other = kit.start(queued("a", "b")), ended(kit)
    kit.fail(kit.claim(session), 1.0)
    kit.store.halt(session, Halt.CANCELLED, None, None)
    kit.store.settle(session)

    assert kit.store.delete_sessions([session, "nobody"]) == 1
    for table in (tables.sessions, tables.heads, tables.steps):
        assert kit.column(table.c.session_id) == [other]
    assert kit.column(tables.attempts.c.session_id) == []


def test_a_session_that_came_back_to_life_is_not_deleted(kit: Kit) -> None:
    """R118: never touches running ones."""
    family = tree(kit, "failed", "completed")
    alone, active = ended(kit), kit.start()
    kit.store.revive(family[0])

    assert kit.store.delete_sessions([*family, alone, active]) == 1
    assert sorted(kit.column(tables.sessions.c.session_id)) == sorted([*family, active])
    assert kit.store.delete_sessions([]) == 0


def test_one_session_is_deleted_whatever_its_status(kit: Kit) -> None:
    session, other = kit.start(queued("a", "b")), kit.start()
    kit.claim(session)
    kit.store.delete_session(session)
    kit.store.delete_session(session)

    assert kit.column(tables.sessions.c.session_id) == [other]
    assert kit.column(tables.steps.c.session_id) == [other]


def test_definitions_go_when_no_session_refers_to_them_and_not_at_once(kit: Kit) -> None:
    """D9: definitions that a session refers to stay."""
    gone, stays = ended(kit, digest="1" * 64), ended(kit, digest="2" * 64)
    kit.store.delete_session(gone)

    assert kit.store.forget_definitions() == 0, "a start may be about to use it"
    kit.clock.forward(3601)
    assert kit.store.forget_definitions() == 1
    assert kit.column(tables.definitions.c.digest) == ["2" * 64]
    assert bytes(kit.store.definition(kit.store.session(stays)["definition_digest"])["body"])
    kit.start(digest="1" * 64)
    assert sorted(kit.column(tables.definitions.c.digest)) == ["1" * 64, "2" * 64]


def test_only_so_many_definitions_go_at_once(kit: Kit) -> None:
    for number in range(3):
        kit.store.delete_session(ended(kit, digest=str(number) * 64))
    kit.clock.forward(3601)
    assert [kit.store.forget_definitions(2) for _ in range(3)] == [2, 1, 0]
