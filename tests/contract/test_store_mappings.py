"""(thread, resource) → session, on every database (R89-R91, R99, R102, R106)."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, inspect, text

from celery_cascade.errors import SessionNotFound
from celery_cascade.persistence import tables
from celery_cascade.persistence.database import Database
from celery_cascade.states import Halt
from contract.kit import NOON, Kit, queued
from contract.test_store_plans import explained


def threads_of(kit: Kit, resource: str, **more: Any) -> list[str]:
    return [row["thread_id"] for row in kit.store.mappings(resource, **more)]


def test_a_saved_thread_is_found_again_and_one_that_is_not_there_is_none(kit: Kit) -> None:
    """R91: get gives the id or nothing, metadata the whole record or nothing."""
    session = kit.start()
    kit.store.save_mapping("t-1", "ann", session)
    assert dict(kit.store.mapping("t-1", "ann") or {}) == {
        "thread_id": "t-1",
        "resource_id": "ann",
        "session_id": session,
        "created_at": NOON,
        "updated_at": NOON,
    }
    assert kit.store.mapping("t-2", "ann") is None
    assert kit.store.mapping("T-1", "ann") is None, "another name"


def test_a_second_save_moves_the_row_and_keeps_when_it_was_made(kit: Kit) -> None:
    """R90: an upsert: one row, another session, a later `updated_at`, the same `created_at`."""
    first, second = kit.start(), kit.start()
    kit.store.save_mapping("t-1", "ann", first)
    later = kit.clock.forward(minutes=5)
    kit.store.save_mapping("t-1", "ann", second)
    (row,) = kit.store.mappings("ann")
    assert (row["session_id"], row["created_at"], row["updated_at"]) == (second, NOON, later)


def test_a_thread_is_not_saved_for_a_session_that_is_not_there_or_is_anothers(kit: Kit) -> None:
    """R102: what belongs to Ann is to Bob as if it were not there; the words are the same for both."""
    anns = kit.start(resource_id="ann")
    told = []
    for session in ("nowhere", anns):
        with pytest.raises(SessionNotFound) as caught:
            kit.store.save_mapping("t-1", "bob", session)
        told.append(caught.value.message.replace(session, "ID"))
    assert told[0] == told[1]
    assert kit.store.mappings("bob") == []
    kit.store.save_mapping("t-1", "ann", anns)
    kit.store.save_mapping("t-1", "bob", kit.start())  # nobody's


def test_of_many_saves_at_once_one_row_is_left(kit: Kit) -> None:
    """R90."""
    sessions = [kit.start() for _ in range(4)]
    errors: list[BaseException] = []

    def save(session: str) -> None:
        try:
            for _ in range(5):
                kit.store.save_mapping("t-1", "ann", session)
        except BaseException as error:  # noqa: BLE001  whatever it is, the test is to show it
            errors.append(error)

    several = [threading.Thread(target=save, args=(session,)) for session in sessions]
    for one in several:
        one.start()
    for one in several:
        one.join()
    assert not errors
    (row,) = kit.store.mappings("ann")
    assert row["session_id"] in sessions


def test_a_resource_sees_its_own_threads_the_one_used_last_first(kit: Kit) -> None:
    """R91, R102."""
    for name in ("a", "b", "c"):
        kit.store.save_mapping(name, "ann", kit.start())
        kit.store.save_mapping(name, "bob", kit.start())
        kit.clock.forward(minutes=1)
    kit.store.save_mapping("a", "ann", kit.start())
    assert threads_of(kit, "ann") == ["a", "c", "b"]
    assert threads_of(kit, "ANN") == []


def test_the_pages_of_a_list_have_each_thread_once(kit: Kit) -> None:
    """R91: also where many were used in the same moment."""
    for number in range(7):
        kit.store.save_mapping(f"t-{number}", "ann", kit.start())
        if number % 3 == 2:
            kit.clock.forward(minutes=1)
    seen: list[str] = []
    before = None
    while page := kit.store.mappings("ann", limit=2, before=before):
        seen += [row["thread_id"] for row in page]
        before = page[-1]["updated_at"], page[-1]["thread_id"]
    assert seen == ["t-6", "t-5", "t-4", "t-3", "t-2", "t-1", "t-0"]


def test_delete_takes_that_pair_only_and_twice_is_no_error(kit: Kit) -> None:
    """R91, D10, R102: the session stays, and so do threads of that name of others."""
    session = kit.start()
    for resource in ("ann", "bob"):
        kit.store.save_mapping("t-1", resource, session)
    kit.store.save_mapping("t-2", "ann", session)
    assert kit.store.delete_mapping("t-1", "eve") is False
    assert kit.store.delete_mapping("t-1", "ann") is True
    assert kit.store.delete_mapping("t-1", "ann") is False
    assert (threads_of(kit, "ann"), threads_of(kit, "bob")) == (["t-2"], ["t-1"])
    assert kit.head(session)["status"] == "active"


def test_every_use_of_a_thread_moves_its_last_activity(kit: Kit) -> None:
    """R99, R107: a start, a continuation, a resume; `created_at` stays."""
    pair: dict[str, Any] = {"thread_id": "t-1", "resource_id": "ann"}
    moments = []

    def used() -> None:
        row = kit.store.mapping("t-1", "ann")
        assert row is not None
        assert row["created_at"] == NOON
        moments.append(row["updated_at"])
        kit.clock.forward(minutes=1)

    first = kit.start(**pair)
    used()
    kit.store.halt(first, Halt.SUSPENDED, "operator")
    kit.store.settle(first)
    kit.store.revive(first)
    used()
    kit.run(first)
    kit.complete(first)
    kit.start(**pair)
    used()
    assert moments == sorted(set(moments))


def test_a_mapping_stays_light(kit: Kit) -> None:
    """R106, R89: a pointer with its two times; nothing of the history is copied into it."""
    found = inspect(kit.database.engine).get_columns("session_mappings")
    names = {"thread_id", "resource_id", "session_id", "created_at", "updated_at"}
    assert {column["name"] for column in found} == names
    key = inspect(kit.database.engine).get_pk_constraint("session_mappings")
    assert key["constrained_columns"] == ["thread_id", "resource_id"]
    assert kit.column(tables.mappings.c.thread_id) == []
    kit.start(queued("a"), thread_id="t", resource_id="r")
    assert kit.column(tables.mappings.c.thread_id) == ["t"]


@pytest.mark.parametrize("before", [None, (NOON + timedelta(minutes=500), "t-500")], ids=["first page", "next page"])
def test_a_page_of_threads_is_read_by_index(contract_database: Database, before: Any) -> None:
    """R89, STYLE 10: (resource, updated_at), however many threads a resource has, and others have."""
    kit = Kit(contract_database)
    rows = [
        {"thread_id": f"t-{number}", "resource_id": resource, "session_id": "s", "created_at": NOON, "updated_at": at}
        for number in range(1500)
        for resource in ("ann", "bob")
        for at in [NOON + timedelta(minutes=number)]
    ]
    contract_database.transaction(lambda conn: conn.execute(insert(tables.mappings), rows))
    analyze = {"sqlite": "ANALYZE", "postgresql": "ANALYZE session_mappings", "mysql": "ANALYZE TABLE session_mappings"}
    with contract_database.autocommit() as conn:
        conn.execute(text(analyze[contract_database.family])).close()
    scanned, used = explained(kit, lambda: kit.store.mappings("ann", limit=20, before=before))
    assert scanned == set()
    assert used == {"ix_session_mappings_resource_id_updated_at"}
    Kit(contract_database)
