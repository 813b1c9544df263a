"""R100, R132: what of context and conversation comes along with a fork, and that each goes its own way from there."""

from __future__ import annotations

from typing import Any

import pytest

from celery_cascade import Session, current_session
from celery_cascade.errors import SessionConflict, SessionNotFound, UsageError
from celery_cascade.sessions.thread_fork import fork_thread
from sessions.kit import Kit

#: Each step adds its name to the context and says it.
STEPS = (
    {"id": "a", "task": "tells"},
    {"id": "b", "task": "tells", "needs": ["a"]},
    {"id": "c", "task": "tells", "needs": ["a"]},
    {"id": "d", "task": "tells", "needs": ["b", "c"]},
)


@pytest.fixture
def talking(any_kit: Kit) -> Kit:
    @any_kit.task("tells")
    def tells(**_: Any) -> str:
        session = current_session()
        assert session is not None
        session.context.setdefault("said", []).append(session.step)
        session.context[session.step] = session.attempt
        session.say("assistant", session.step)
        return session.step

    return any_kit


def said(session: Session) -> list[str]:
    return [message["content"] for message in session.conversation_history]


def run(kit: Kit) -> Session:
    session = kit.start(*STEPS)
    session.say("user", "before")
    session.context["from"] = "ann"
    kit.deliver()
    assert session.status == "completed"
    return session


def test_a_fork_has_what_kept_steps_have_set_and_said_and_others_up_to_there(talking: Kit) -> None:
    """R132: b runs again; what c did stays although it came after."""
    origin = run(talking)
    context, history = dict(origin.context), said(origin)

    fork = origin.fork(at="b")

    assert fork.context == {"from": "ann", "said": ["a", "c"], "a": 1, "c": 1}
    assert said(fork) == ["before", "a", "c"]
    talking.deliver()
    assert (sorted(fork.context["said"]), said(fork)[3:]) == (["a", "b", "c", "d"], ["b", "d"])
    assert (dict(origin.context), said(origin)) == (context, history)


def test_what_was_set_and_said_from_outside_after_the_fork_is_not_in_it(talking: Kit) -> None:
    """R132."""
    origin = talking.start(*STEPS)
    talking.receive(talking.messages()[0])
    origin.context["late"] = 1
    origin.say("user", "late")

    fork = origin.fork(at="a")

    assert (dict(fork.context), said(fork)) == ({}, [])
    assert (dict(origin.fork().context)["late"], said(origin.fork())) == (1, ["a", "late"])


def test_a_fork_without_the_conversation_begins_with_silence(talking: Kit) -> None:
    """R132: the conversation comes along as told; a rerun begins with nothing of either."""
    origin = run(talking)

    assert said(origin.fork(at="d", conversation=False)) == []
    again = origin.rerun()
    assert (said(again), dict(again.context)) == ([], {})


def test_a_fork_of_a_fork_loses_what_its_own_step_had_said(talking: Kit) -> None:
    """R132: what was copied still is the step's that said it."""
    first = run(talking).fork(at="d")

    second = first.fork(at="b")

    assert said(first) == ["before", "a", "b", "c"]
    assert said(second) == ["before", "a", "c"]
    assert (sorted(first.context["said"]), first.context["b"]) == (["a", "b", "c"], 1)
    assert second.context == {"from": "ann", "said": ["a", "c"], "a": 1, "c": 1}


def test_a_fork_of_a_fork_keeps_what_was_given_with_the_first(talking: Kit) -> None:
    """R132: whoever set it, and although the first origin has changed hands."""
    origin = run(talking)
    first = origin.fork(at="d", context={"from": "bob", "more": 1})
    first.context["later"] = 2

    second = first.fork(at="c")
    third = second.fork(at="b")

    assert second.context == {"from": "bob", "more": 1, "said": ["a", "b"], "a": 1, "b": 1}
    assert third.context == {"from": "bob", "more": 1, "said": ["a"], "a": 1}
    origin.delete()
    assert first.fork(at="b").context["more"] == 1


# -- threads
def test_two_threads_go_on_apart_from_where_one_was_forked(talking: Kit) -> None:
    """R100: the new one has all turns of the first, and neither hears the other from then on."""
    pair = {"thread_id": "t", "resource_id": f"ann-{talking.queue}"}
    first = talking.start({"id": "hello", "task": "tells"}, **pair)
    first.say("user", "one")
    talking.deliver()
    second = talking.start({"id": "more", "task": "tells"}, **pair)
    talking.deliver()
    before = [session.to_dict() for session in (first, second)]

    made = talking.cascades.threads.fork(*pair.values(), "other", actor="ann")

    assert (made.thread_id, made.resource_id) == ("other", pair["resource_id"])
    fork = talking.cascades.session(made.session_id)
    assert fork.status == "completed"
    assert fork.output == second.output
    assert said(fork)[-1] == "more"
    assert [session.to_dict() for session in (first, second)] == before
    third = talking.start({"id": "apart", "task": "tells"}, thread_id="other", resource_id=pair["resource_id"])
    talking.deliver()
    assert talking.store.session(third.id)["continues"] == fork.id
    assert "apart" not in said(second)
    fourth = talking.start({"id": "on", "task": "tells"}, **pair)
    talking.deliver()
    assert talking.store.session(fourth.id)["continues"] == second.id


def test_a_thread_that_is_not_there_cannot_be_forked_nor_one_that_is_be_taken(talking: Kit) -> None:
    """R101: with its words; a name and the owner's resource by default."""
    resource = f"bob-{talking.queue}"
    with pytest.raises(SessionNotFound, match=r"^Parent session not found\. Cannot fork from non-existent thread\."):
        fork_thread(talking.runtime, "t", resource)
    with pytest.raises(SessionNotFound) as caught:
        fork_thread(talking.runtime, "t", "my team")
    assert caught.value.hint.endswith("cascade threads ls --resource='my team'"), "the list, and not its help"
    talking.start({"id": "hello", "task": "tells"}, thread_id="t", resource_id=resource)
    talking.deliver()

    made = fork_thread(talking.runtime, "t", resource)

    assert made.thread_id.startswith("fork-1")
    assert made.resource_id == resource
    assert talking.cascades.threads.get(made.thread_id, resource) == made.session_id
    with pytest.raises(SessionConflict, match="is there already"):
        fork_thread(talking.runtime, "t", resource, made.thread_id)
    with pytest.raises(SessionNotFound):
        fork_thread(talking.runtime, "t", "somebody else")
    with pytest.raises(UsageError, match="thread_id is missing"):
        fork_thread(talking.runtime, None, resource)  # type: ignore[arg-type]
