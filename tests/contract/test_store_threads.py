"""Threads: the user's own handle moves from session to session (D12)."""

from __future__ import annotations

import threading

import pytest

from celery_cascade.errors import SessionConflict
from celery_cascade.persistence import tables
from celery_cascade.states import Halt
from contract.kit import Kit, queued

PAIR = {"thread_id": "t-1", "resource_id": "ann"}


def mapping(kit: Kit) -> list[tuple[str, str]]:
    threads = kit.column(tables.mappings.c.thread_id)
    return list(zip(threads, kit.column(tables.mappings.c.session_id), strict=True))


def end(kit: Kit, session: str) -> None:
    kit.store.halt(session, Halt.CANCELLED, None)
    assert kit.store.settle(session) == "cancelled"


def test_a_start_with_thread_and_resource_points_them_at_it(kit: Kit) -> None:
    """R90, D12: a start with a pair whose session has ended continues it, and moves the mapping."""
    first = kit.start(queued("a"), **PAIR)
    assert mapping(kit) == [("t-1", first)]
    end(kit, first)
    kit.clock.forward(minutes=1)
    second = kit.start(queued("a"), **PAIR)
    assert mapping(kit) == [("t-1", second)]
    assert set(kit.column(tables.sessions.c.continues)) == {None, first}
    (moved,) = kit.column(tables.mappings.c.updated_at)
    (made,) = kit.column(tables.mappings.c.created_at)
    assert moved > made


def test_a_thread_whose_session_runs_is_a_conflict_that_names_it(kit: Kit) -> None:
    """D12."""
    first = kit.start(queued("a"), **PAIR)
    with pytest.raises(SessionConflict, match=f"'t-1' of 'ann' is in session {first}, which is active"):
        kit.start(queued("a"), **PAIR)
    assert kit.column(tables.sessions.c.session_id) == [first]
    other = kit.start(queued("a"), thread_id="t-1", resource_id="bob")  # another resource's thread of that name
    assert sorted(mapping(kit)) == sorted([("t-1", first), ("t-1", other)])


def test_half_a_pair_is_no_thread(kit: Kit) -> None:
    kit.start(queued("a"), resource_id="ann")
    kit.start(queued("a"), thread_id="t-1")
    assert mapping(kit) == []


def test_of_two_starts_at_once_one_gets_the_thread(kit: Kit) -> None:
    outcomes: list[str] = []

    def start() -> None:
        try:
            kit.start(queued("a"), **PAIR)
            outcomes.append("started")
        except SessionConflict:
            outcomes.append("conflict")

    both = [threading.Thread(target=start) for _ in range(4)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(outcomes) == ["conflict"] * 3 + ["started"]
    assert len(mapping(kit)) == len(kit.column(tables.sessions.c.session_id)) == 1


def test_a_session_that_goes_on_takes_its_thread_back_unless_another_runs_in_it(kit: Kit) -> None:
    """D12: a conversation is in one running session."""
    first = kit.start(queued("a"), **PAIR)
    kit.fail(kit.claim(first))
    kit.store.settle(first)
    second = kit.start(queued("a"), **PAIR)
    with pytest.raises(SessionConflict, match=f"goes on in session {second}, which is active"):
        kit.store.revive(first, None, worker=None, resend_after=60.0)
    assert kit.head(first)["status"] == "failed"
    end(kit, second)
    kit.store.revive(first, None, worker=None, resend_after=60.0)
    assert mapping(kit) == [("t-1", first)]


def test_a_branch_whose_tree_was_deleted_meanwhile_is_a_root(kit: Kit) -> None:
    """D9: a tree is deleted whole, so nothing is put on one that is gone."""
    lone = kit.start(queued("a"), parent_session_id="gone", parent_step="a", root_session_id="gone", depth=3)
    assert kit.column(tables.sessions.c.parent_session_id) == [None]
    assert kit.column(tables.sessions.c.root_session_id) == [lone]
    assert kit.column(tables.sessions.c.depth) == [0]
