"""Turns of a conversation: what continues what, who waits for whom, and what is taken over (D12)."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from celery_cascade.errors import SessionConflict
from celery_cascade.persistence import tables
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.rows import NewMessage
from celery_cascade.states import Halt
from contract.kit import NOON, Kit, joins, queued, skipped
from contract.traffic import watched

PAIR: dict[str, Any] = {"thread_id": "t-1", "resource_id": "ann"}


def cancel(kit: Kit, session: str) -> None:
    kit.store.halt(session, Halt.CANCELLED, None)
    assert kit.store.settle(session) == "cancelled"


def complete(kit: Kit, session: str) -> None:
    kit.run(session)
    kit.complete(session)


def fail(kit: Kit, session: str) -> None:
    kit.fail(kit.claim(session))
    assert kit.store.settle(session) == "failed"


def begin(kit: Kit, session: str) -> bool:
    try:
        kit.store.revive(session, Action(action="begin"), its_turn=True)
    except SessionConflict:
        return False
    return True


def row(kit: Kit, session: str) -> Any:
    return kit.store.session(session)


def say(kit: Kit, session: str, text: str) -> None:
    kit.store.say(session, NewMessage(role="user", content=json.dumps(text)))


def said(kit: Kit, session: str) -> list[str]:
    return [json.loads(message["content"]) for message in kit.store.conversation(session)]


def put(kit: Kit, session: str, **values: Any) -> None:
    version, _ = kit.store.context(session)
    delta = json.dumps([["set", [key], value] for key, value in values.items()])
    _, now = kit.store.context(session)
    kit.store.write_context(session, version=version, value=now | values, delta=delta)


def context(kit: Kit, session: str) -> dict[str, Any]:
    return kit.store.context(session)[1]


def mapped(kit: Kit) -> str | None:
    found = kit.store.mapping("t-1", "ann")
    return None if found is None else found["session_id"]


def test_each_start_in_a_thread_is_one_turn_more_of_the_same_conversation(kit: Kit) -> None:
    """D12, R98."""
    sessions = []
    for _ in range(3):
        sessions.append(kit.start(**PAIR))
        complete(kit, sessions[-1])
    found = [row(kit, session) for session in sessions]
    assert [one["continues"] for one in found] == [None, *sessions[:2]]
    assert [one["turn"] for one in found] == [0, 1, 2]
    with kit.database.read() as conn:
        rows = conn.execute(tables.sessions.select()).all()
    assert {one.conversation_id for one in rows} == {None, sessions[0]}


def test_what_was_said_and_what_was_kept_is_there_in_the_next_turn(kit: Kit) -> None:
    """R98, D12: messages are seen where they are, the context is the next session's own from then on."""
    first = kit.start(**PAIR)
    say(kit, first, "What is 2+2?")
    put(kit, first, sum=4, of=[2, 2])
    complete(kit, first)
    second = kit.start(**PAIR)
    say(kit, second, "What was my last question?")
    assert said(kit, second) == ["What is 2+2?", "What was my last question?"]
    assert context(kit, second) == {"sum": 4, "of": [2, 2]}
    put(kit, second, sum=5)
    assert (context(kit, first)["sum"], context(kit, second)["sum"]) == (4, 5)
    assert said(kit, first) == ["What is 2+2?"]
    (begun,) = [change for change in kit.store.context_changes(second) if change["version"] == 1]
    assert begun["step"] is None


def test_what_a_start_says_itself_is_laid_over_the_context_that_it_takes_over(kit: Kit) -> None:
    first = kit.start(**PAIR, context='{"a":1,"b":1}')
    complete(kit, first)
    assert context(kit, kit.start(**PAIR, context='{"b":2,"c":3}')) == {"a": 1, "b": 2, "c": 3}


def test_a_start_that_queues_waits_suspended_with_its_first_steps_parked(kit: Kit) -> None:
    """D12: written at once, so that it is not lost; it runs nothing before its turn."""
    first = kit.start(**PAIR)
    rows = [*queued("a", "b"), *skipped("s"), *joins(j=2)]
    second = kit.start(rows, **PAIR, queue=True, closed_steps=1)
    found = row(kit, second)
    assert (found["status"], found["status_reason"], found["started_at"]) == ("suspended", "signal", None)
    assert (found["continues"], found["turn"], mapped(kit)) == (first, 1, second)
    assert kit.statuses(second) == {"a": "pending", "b": "pending", "j": "pending", "s": "skipped"}
    assert not begin(kit, second), "its turn has not come"
    kit.check(second)


def test_when_the_one_before_has_ended_it_begins_with_its_context(kit: Kit) -> None:
    """D12: as the context was at that end, not as it was when the start was called."""
    first = kit.start(**PAIR)
    second = kit.start(queued("a", "b"), **PAIR, queue=True, context='{"own":1}')
    put(kit, first, n=7, own=0)
    complete(kit, first)
    assert kit.store.turn_after(first) == second
    later = kit.clock.forward(minutes=1)
    status, steps = kit.store.revive(second, Action(action="begin"), its_turn=True)
    assert (status, sorted(step.key.step for step in steps)) == ("suspended", ["a", "b"])
    head = kit.head(second)
    assert (head["status"], head["status_reason"], head["started_at"]) == ("active", None, later)
    assert context(kit, second) == {"n": 7, "own": 1}
    assert kit.store.mapping("t-1", "ann")["updated_at"] == later  # type: ignore[index]
    (change,) = [change for change in kit.store.context_changes(second) if change["version"] == head["version"]]
    assert json.loads(change["delta"]) == [["set", ["n"], 7]]
    assert [action["action"] for action in kit.store.actions(second)] == ["begin"]
    kit.check(second)


@pytest.mark.parametrize("end", [complete, fail, cancel])
def test_however_the_one_before_ends_the_next_begins(kit: Kit, end: Any) -> None:
    """D12: final is final."""
    first = kit.start(**PAIR)
    second = kit.start(**PAIR, queue=True)
    end(kit, first)
    assert kit.store.ready_turns() == [second]
    assert begin(kit, second)


def test_several_wait_in_the_order_of_their_starts(kit: Kit) -> None:
    """D12: one after the other, each continues the one before it."""
    line = [kit.start(**PAIR)] + [kit.start(**PAIR, queue=True) for _ in range(3)]
    assert [row(kit, one)["continues"] for one in line] == [None, *line[:3]]
    for ended, following, *after in (line[0:], line[1:], line[2:]):
        assert not any(begin(kit, one) for one in (following, *after))
        put(kit, ended, last=ended)
        complete(kit, ended)
        assert kit.store.ready_turns() == [following]
        assert not any(begin(kit, one) for one in after)
        assert begin(kit, following)
        assert context(kit, following) == {"last": ended}
        assert mapped(kit) == line[-1], "the thread stays with the one that comes last"


def test_who_waits_behind_one_that_was_cancelled_waits_for_who_runs(kit: Kit) -> None:
    """D12: the one between has ended, but the thread has not."""
    first = kit.start(**PAIR)
    second, third = kit.start(**PAIR, queue=True), kit.start(**PAIR, queue=True)
    put(kit, first, n=1)
    cancel(kit, second)
    assert kit.store.turn_after(second) == third
    assert not begin(kit, third)
    assert kit.store.ready_turns() == []
    complete(kit, first)
    assert kit.store.turn_after(first) == third
    assert begin(kit, third)
    assert context(kit, third) == {"n": 1}, "of the latest that ever began"


def test_a_thread_whose_queue_was_cancelled_is_still_where_it_runs(kit: Kit) -> None:
    """D12: the mapping names a session that has ended, yet another runs."""
    first = kit.start(**PAIR)
    cancel(kit, kit.start(**PAIR, queue=True))
    with pytest.raises(SessionConflict, match=f"is in session {first}, which is active"):
        kit.start(**PAIR)
    third = kit.start(**PAIR, queue=True)
    assert not begin(kit, third)
    complete(kit, first)
    assert begin(kit, third)


def test_who_waits_behind_one_that_was_deleted_waits_for_who_runs(kit: Kit) -> None:
    """D10, D12: and with the last of a queue gone, the thread is again the one's that runs."""
    first = kit.start(**PAIR)
    second, third = kit.start(**PAIR, queue=True), kit.start(**PAIR, queue=True)
    kit.store.delete_session(second)
    assert not begin(kit, third)
    assert kit.store.turns_after_gone([second]) == [third]
    kit.store.delete_tree(third, lambda _: None)
    assert mapped(kit) == first
    with pytest.raises(SessionConflict, match=first):
        kit.start(**PAIR)


def test_one_whose_predecessor_was_deleted_begins(kit: Kit) -> None:
    """D10: a suspended session may be deleted; nobody waits for it for ever."""
    first = kit.start(**PAIR)
    second, third = kit.start(**PAIR, queue=True), kit.start(**PAIR, queue=True)
    kit.store.halt(first, Halt.SUSPENDED, "operator")
    kit.store.settle(first)
    assert kit.store.ready_turns() == [], "suspended is not ended"
    kit.store.delete_session(first)
    assert kit.store.ready_turns() == kit.store.turns_after_gone([first]) == [second]
    assert begin(kit, second)
    assert context(kit, second) == {}
    assert not begin(kit, third)


def test_one_that_failed_may_go_on_before_who_waits_behind_it(kit: Kit) -> None:
    """D12: whoever is first; the other then waits, or is a conflict."""
    first = kit.start(**PAIR)
    second = kit.start(**PAIR, queue=True)
    fail(kit, first)
    kit.store.revive(first)
    assert not begin(kit, second), "it runs again"
    assert mapped(kit) == second
    fail(kit, first)
    assert begin(kit, second)
    with pytest.raises(SessionConflict, match=f"goes on in session {second}, which is active"):
        kit.store.revive(first)


def test_a_resume_and_a_turn_at_once_never_run_both(kit: Kit) -> None:
    """D12: a conversation is in one running session."""
    for _ in range(5):
        first = kit.start(**PAIR)
        second = kit.start(**PAIR, queue=True)
        fail(kit, first)
        outcomes: list[bool] = []

        def go_on(first: str = first, outcomes: list[bool] = outcomes) -> None:
            try:
                kit.store.revive(first)
                outcomes.append(True)
            except SessionConflict:
                outcomes.append(False)

        def take_turn(second: str = second, outcomes: list[bool] = outcomes) -> None:
            outcomes.append(begin(kit, second))

        both = [threading.Thread(target=go_on), threading.Thread(target=take_turn)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        assert sorted(outcomes) == [False, True]
        assert [kit.head(one)["status"] for one in (first, second)].count("active") == 1
        cancel(kit, first)
        cancel(kit, second)


def test_many_that_would_begin_the_same_session_begin_it_once(kit: Kit) -> None:
    """Rule 6: whoever wrote the end, and every sweep."""
    first = kit.start(**PAIR)
    second = kit.start(**PAIR, queue=True)
    complete(kit, first)
    outcomes: list[bool] = []
    several = [threading.Thread(target=lambda: outcomes.append(begin(kit, second))) for _ in range(4)]
    for one in several:
        one.start()
    for one in several:
        one.join()
    assert sorted(outcomes) == [False, False, False, True]
    assert kit.head(second)["version"] == 2


def test_starts_that_queue_at_once_are_a_line(kit: Kit) -> None:
    """D12: no turn twice."""
    kit.start(**PAIR)
    several = [threading.Thread(target=lambda: kit.start(**PAIR, queue=True)) for _ in range(4)]
    for one in several:
        one.start()
    for one in several:
        one.join()
    assert sorted(kit.column(tables.sessions.c.turn)) == [0, 1, 2, 3, 4]
    continued = kit.column(tables.sessions.c.continues)
    assert len(set(continued)) == 5


def test_a_queued_session_may_be_begun_by_hand_only_in_its_turn(kit: Kit) -> None:
    """D12: a resume says for whom it waits."""
    first = kit.start(**PAIR)
    second = kit.start(**PAIR, queue=True)
    with pytest.raises(SessionConflict, match=f"{second} waits for session {first} of its thread, which is active"):
        kit.store.revive(second, Action(action="resume"))
    complete(kit, first)
    kit.store.revive(second, Action(action="resume"))
    assert (kit.head(second)["status"], kit.head(second)["started_at"]) == ("active", NOON)


def test_a_queued_session_expires_by_its_own_time(kit: Kit) -> None:
    """R45: expired while queued: it never ran, and the next does not wait for it."""
    first = kit.start(**PAIR)
    second = kit.start(**PAIR, queue=True, expires_at=kit.clock.forward(minutes=1))
    third = kit.start(**PAIR, queue=True)
    kit.clock.forward(minutes=1)
    assert kit.store.past_expiry() == [second]
    kit.store.halt(second, Halt.EXPIRED, None)
    assert kit.store.settle(second) == "expired"
    assert kit.statuses(second) == {"a": "cancelled"}
    complete(kit, first)
    assert begin(kit, third)


def test_with_nobody_before_it_a_start_that_would_queue_just_begins(kit: Kit) -> None:
    first = kit.start(**PAIR, queue=True)
    assert kit.head(first)["status"] == "active"
    complete(kit, first)
    assert kit.head(kit.start(**PAIR, queue=True))["status"] == "active"


def test_two_threads_that_were_pointed_at_one_session_go_their_own_ways(kit: Kit) -> None:
    """R102: what is said in the one from then on is not seen in the other."""
    shared = kit.start()
    say(kit, shared, "hello")
    put(kit, shared, n=1)
    complete(kit, shared)
    for resource in ("ann", "bob"):
        kit.store.save_mapping("t-1", resource, shared)
    anns = kit.start(thread_id="t-1", resource_id="ann")
    say(kit, anns, "I am Ann")
    bobs = kit.start(thread_id="t-1", resource_id="bob")
    say(kit, bobs, "I am Bob")
    assert said(kit, anns) == ["hello", "I am Ann"]
    assert said(kit, bobs) == ["hello", "I am Bob"]
    assert context(kit, anns) == context(kit, bobs) == {"n": 1}
    complete(kit, anns)
    complete(kit, bobs)
    assert said(kit, kit.start(thread_id="t-1", resource_id="ann")) == ["hello", "I am Ann"]
    assert said(kit, kit.start(thread_id="t-1", resource_id="bob")) == ["hello", "I am Bob"]


def test_nobody_queues_behind_a_session_of_another_thread(kit: Kit) -> None:
    """R102: it could not tell which of the messages it may see."""
    first = kit.start(thread_id="t-2", resource_id="ann")
    kit.store.save_mapping("t-1", "ann", first)
    with pytest.raises(SessionConflict, match=first):
        kit.start(**PAIR, queue=True)


def test_a_thread_that_was_pointed_back_goes_on_from_there_as_a_later_turn(kit: Kit) -> None:
    """R90: saved by hand; no turn is there twice."""
    sessions = []
    for _ in range(2):
        sessions.append(kit.start(**PAIR))
        put(kit, sessions[-1], n=len(sessions))
        complete(kit, sessions[-1])
    kit.store.save_mapping("t-1", "ann", sessions[0])
    third = kit.start(**PAIR)
    assert (row(kit, third)["continues"], row(kit, third)["turn"]) == (sessions[0], 2)
    assert context(kit, third) == {"n": 1}


def test_a_session_that_is_gone_is_not_continued(kit: Kit) -> None:
    first = kit.start(**PAIR)
    complete(kit, first)
    kit.store.delete_session(first)
    assert mapped(kit) is None
    assert row(kit, kit.start(**PAIR))["continues"] is None


def test_a_hundred_turns_are_read_with_as_many_statements_as_two(kit: Kit) -> None:
    """R106, DESIGN 10: the conversation is not copied from turn to turn, and not gathered turn by turn."""
    costs = {}
    for number in range(100):
        session = kit.start(**PAIR)
        say(kit, session, str(number))
        cancel(kit, session)
        if number in (1, 99):
            with watched() as traffic:
                assert said(kit, session) == [str(one) for one in range(number + 1)]
            costs[number] = len(traffic.statements)
    assert costs[99] == costs[1] <= 3
    assert len(kit.column(tables.messages.c.seq)) == 100
