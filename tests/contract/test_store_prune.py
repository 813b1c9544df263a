"""Retention (D9): what goes, what stays, in batches and trees."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from sqlalchemy import insert, update

from celery_cascade.errors import SessionNotFound
from celery_cascade.persistence import tables
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.models import Base
from celery_cascade.persistence.prune import MOST_STEPS, Pruning
from celery_cascade.persistence.prune_rules import Rules
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


def pruning(
    kit: Kit, ages: dict[str, timedelta | None] | None = None, keep_last: int = 0, limit: int = 100, **more: Any
) -> Pruning:
    return kit.store.pruning(Rules(ages=AGES if ages is None else ages, keep_last=keep_last, **more), batch=limit)


def batches(kit: Kit, *args: Any, **options: Any) -> list[list[str]]:
    """What each transaction of a prune would delete."""
    found = pruning(kit, *args, **options).batches()
    return [[one.session_id for tree in trees for one in tree] for trees in found]


def prunable(kit: Kit, *args: Any, **options: Any) -> list[str]:
    return list(chain(*batches(kit, *args, **options)))


def prune(kit: Kit, **options: Any) -> list[str]:
    one = pruning(kit, **options)
    return [gone.session_id for trees in one.batches() for gone in one.delete(trees)]


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
    found = [one for trees in pruning(kit, limit=2).batches() for tree in trees for one in tree]
    assert {one.status: one.session_id for one in found} == sessions


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


def pin(kit: Kit, session: str, pinned: bool = True) -> bool:
    return kit.store.pin(session, pinned, Action(action="keep", actor="me", reason="audit"))


def test_a_pin_is_recorded_and_can_be_undone(kit: Kit) -> None:
    """D9: session.keep(), session.keep(False)."""
    session = ended(kit)
    before = kit.head(session)["version"]
    assert [pin(kit, session), pin(kit, session)] == [True, False]
    assert kit.head(session)["pinned"] == 1
    assert [pin(kit, session, False), pin(kit, session, False)] == [True, False]
    assert kit.head(session)["version"] == before + 2, "what changes nothing is no change"
    assert [(row["action"], row["actor"], row["reason"]) for row in kit.store.actions(session)] == [
        ("keep", "me", "audit")
    ] * 2
    kit.clock.forward(days=100)
    assert prunable(kit) == [session]
    with pytest.raises(SessionNotFound, match="Available sessions: 1"):
        pin(kit, "nobody")


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
    assert prune(kit) == [unused]
    assert kit.column(tables.mappings.c.session_id) == [used]


def test_the_earlier_sessions_of_a_thread_in_use_stay_with_it(kit: Kit) -> None:
    """D9, D12: the mapping names the newest alone; the others are the conversation that it continues."""
    thread: dict[str, Any] = {"thread_id": "t", "resource_id": "ann"}
    first = ended(kit, **thread)
    other = ended(kit, thread_id="t", resource_id="bob")
    kit.clock.forward(days=20)
    second = ended(kit, **thread)
    kit.clock.forward(days=1)
    assert kit.column(tables.mappings.c.session_id).count(second) == 1
    assert prunable(kit) == [other]
    kit.clock.forward(days=7)
    assert sorted(prune(kit)) == sorted([first, second, other])
    assert kit.column(tables.mappings.c.session_id) == []


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
    """R118, R141: never more than the batch in one transaction, but for a single tree that is larger."""
    trees = []
    for _ in range(3):
        trees.append(tree(kit, "completed", "completed", "completed"))
        kit.clock.forward(1)
    alone = ended(kit)
    kit.clock.forward(days=10)

    def sizes(limit: int) -> list[int]:
        return [len(batch) for batch in batches(kit, limit=limit)]

    assert sizes(6) == [6, 4]
    assert sorted(sizes(5)) == [3, 3, 4]
    assert sorted(sizes(2)) == [1, 3, 3, 3], "a tree larger than the batch goes by itself"
    assert sizes(100) == [10]
    assert sorted(prune(kit, limit=4)) == sorted([*chain(*trees), alone])


def test_sessions_of_very_many_steps_go_in_smaller_batches(kit: Kit) -> None:
    """R118: what one transaction deletes is bounded in rows too."""
    large = []
    for _ in range(3):
        session = kit.start(total=MOST_STEPS // 2 + 1)
        kit.store.halt(session, Halt.CANCELLED, None)
        kit.store.settle(session)
        large.append(session)
    small = [ended(kit) for _ in range(2)]
    kit.clock.forward(days=10)
    found = batches(kit)
    assert sorted(chain(*found)) == sorted(large + small)
    assert all(len(set(batch) & set(large)) <= 1 for batch in found)


def test_a_tree_whose_root_is_gone_goes_whole_all_the_same(kit: Kit) -> None:
    """D9: somebody deleted the root with a SQL client."""
    orphans = tree(kit, "completed", "completed", "completed")
    kit.store.delete_session(orphans[0])
    kit.clock.forward(days=10)
    assert sorted(prunable(kit, limit=1)[:2]) == sorted(orphans[1:])
    assert sorted(prune(kit)) == sorted(orphans[1:])


def test_sessions_without_a_cascade_have_their_newest_too(kit: Kit) -> None:
    """D9: those that were made otherwise than from a file."""
    sessions = []
    for _ in range(4):
        sessions.append(ended(kit))
        kit.clock.forward(1)
    kit.database.transaction(lambda conn: conn.execute(update(tables.sessions).values(cascade_id=None)))
    kit.clock.forward(days=10)
    assert prunable(kit, keep_last=3) == sessions[:1]


def test_one_cascade_alone_can_be_pruned(kit: Kit) -> None:
    """R141. What counts is the cascade of a tree's root."""
    mine = [ended(kit, cascade_id="mine") for _ in range(3)]
    child = ended(kit, cascade_id="other", root_session_id=mine[0], parent_session_id=mine[0], depth=1)
    other = ended(kit, cascade_id="other")
    ended(kit, cascade_id="mine", root_session_id=other, parent_session_id=other, depth=1)
    kit.clock.forward(days=10)
    assert sorted(prunable(kit, cascade="mine", limit=2)) == sorted([*mine, child])
    assert prunable(kit, cascade="nobody") == []


def test_the_oldest_go_first(kit: Kit) -> None:
    sessions = []
    for _ in range(4):
        sessions.append(ended(kit))
        kit.clock.forward(1)
    kit.clock.forward(days=10)
    assert prunable(kit) == sessions
    assert batches(kit, limit=2) == [sessions[:2], sessions[2:]]


def test_many_that_ended_in_the_same_moment_are_each_met_once(kit: Kit) -> None:
    sessions = [ended(kit) for _ in range(7)]
    kit.clock.forward(days=10)
    found = prunable(kit, limit=2)
    assert len(found) == 7
    assert sorted(found) == sorted(sessions)


def rows_of(kit: Kit, session: str) -> dict[str, int]:
    """Table -> rows that name the session, for every table that could."""
    found = {}
    for table in Base.metadata.sorted_tables:
        if "session_id" in table.columns:
            found[table.name] = kit.column(table.c.session_id).count(session)
    return found


def everything(kit: Kit) -> str:
    """A session with a row in every table that has a session_id."""
    session = kit.start(queued("a", "b"))
    kit.fail(kit.claim(session), 1.0)
    kit.store.halt(session, Halt.CANCELLED, None, Action(action="cancel"))
    kit.store.settle(session)
    rows: list[tuple[Any, dict[str, Any]]] = [
        (tables.messages, {"seq": 1, "role": "user", "content": '"hi"', "version": 1}),
        (tables.context_changes, {"delta": '[["set",["n"],1]]', "version": 1}),
        (tables.tags, {"tag": "t"}),
        (tables.signals, {"id": session, "name": "go", "kind": "signal", "version": 1}),
        (tables.mappings, {"thread_id": session, "resource_id": "r"}),
    ]
    for table, values in rows:
        statement = insert(table).values(session_id=session, **values)
        kit.database.transaction(lambda conn, statement=statement: conn.execute(statement))
    assert 0 not in rows_of(kit, session).values(), rows_of(kit, session)
    return session


@pytest.mark.parametrize("way", ["prune", "delete"])
def test_a_deleted_session_leaves_nothing_behind_in_any_table(kit: Kit, way: str) -> None:
    """D10: the thread mapping is free again too."""
    session, other = everything(kit), everything(kit)
    before = rows_of(kit, other)
    if way == "prune":
        pin(kit, other)
        kit.clock.forward(days=10)
        assert prune(kit, ages={"cancelled": DAYS}) == [session]
        before["session_actions"] += 1
    else:
        assert kit.store.delete_tree(session, lambda tree: None) == [session]
    assert set(rows_of(kit, session).values()) == {0}
    assert rows_of(kit, other) == before


def test_what_changed_since_the_look_stays_with_its_whole_tree(kit: Kit) -> None:
    """R118: never touches running ones; nor what was pinned, or has ended anew."""
    family = tree(kit, "failed", "completed")
    pinned, again, gone = ended(kit), ended(kit, "failed"), ended(kit)
    kit.clock.forward(days=31)
    one = pruning(kit)
    (trees,) = one.batches()
    assert len(trees) == 4

    kit.store.revive(family[0])
    pin(kit, pinned)
    kit.store.revive(again)
    kit.store.halt(again, Halt.CANCELLED, None)
    kit.store.settle(again)
    assert [member.session_id for member in one.delete(trees)] == [gone]
    assert sorted(kit.column(tables.sessions.c.session_id)) == sorted([*family, pinned, again])
    assert one.delete(trees) == []


def test_by_the_last_change_it_is_to_the_second(kit: Kit) -> None:
    """R118: 7 d + 1 s goes, 7 d - 1 s stays; counted from `updated_at`, by hand for suspended sessions too."""
    statuses = ("completed", "cancelled", "expired", "failed", "suspended")
    rules = {"ages": dict.fromkeys(statuses, 7 * DAYS), "since": "updated_at"}
    old = [ended(kit, status) for status in statuses]
    active = ended(kit, "active")
    changed = ended(kit)
    kit.clock.forward(2)
    young = [ended(kit, status) for status in statuses]
    pin(kit, changed)
    pin(kit, changed, False)
    kit.clock.forward(7 * 86_400 - 1)
    assert sorted(prunable(kit, **rules, limit=2)) == sorted(old)
    assert sorted(prune(kit, **rules, limit=3)) == sorted(old)
    assert sorted(kit.column(tables.sessions.c.session_id)) == sorted([active, changed, *young])


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
