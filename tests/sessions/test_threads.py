"""Conversations at the Python face: continued, queued, found again; what a process that dies leaves is gone on with."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_cascade import Session, current_session
from celery_cascade.crash_points import CrashPoint, arm
from celery_cascade.errors import (
    InputError,
    NotResumable,
    SessionConflict,
    SessionNotFound,
    SessionTimeout,
    StoreUnavailable,
    UsageError,
)
from celery_cascade.events import session_started
from celery_cascade.sessions.resuming import resume_all
from celery_cascade.tasks import overtime
from sessions.kit import Kit, cascade
from sessions.test_expiry import expire_all

CHAT = cascade({"id": "answer", "task": "chat"}, inputs={"message": {"type": "string", "default": "hi"}})


class Crash(BaseException):
    """The process is gone at this point."""


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm(None)


def die_at(*points: CrashPoint) -> None:
    left = list(points)

    def visit(reached: CrashPoint, of: object) -> None:
        if reached is left[0]:
            left.pop(0)
            if not left:
                arm(None)
                raise Crash

    arm(visit)


@pytest.fixture
def pair() -> dict[str, str]:
    """Tests share their databases."""
    return {"thread_id": f"t-{uuid.uuid4().hex[:8]}", "resource_id": f"ann-{uuid.uuid4().hex[:8]}"}


def give_chat(kit: Kit) -> Kit:
    """A task that answers, and knows how often it has."""

    @kit.task("chat")
    def chat() -> int:
        session = current_session()
        assert session is not None
        session.context["turns"] = session.context.get("turns", 0) + 1
        session.say("assistant", f"answer {session.context['turns']}")
        return int(session.context["turns"])

    return kit


def ask(kit: Kit, message: str, **options: Any) -> Session:
    session = kit.cascades.start(CHAT, {"message": message}, **options)
    session.say("user", message)
    return session


def said(session: Session) -> list[str]:
    return [message["content"] for message in session.conversation_history]


# -- a conversation
def test_a_start_with_the_same_pair_goes_on_with_what_was_said_and_kept(any_kit: Kit, pair: dict[str, str]) -> None:
    """R97, R98, D12."""
    kit = give_chat(any_kit)
    first = ask(kit, "one", **pair)
    kit.deliver()
    second = ask(kit, "two", **pair)
    kit.deliver()
    assert (first.continues, second.continues) == (None, first.id)
    assert (first.result(timeout=5), second.result(timeout=5)) == (1, 2)
    assert said(second) == ["one", "answer 1", "two", "answer 2"]
    assert said(first) == ["one", "answer 1"], "what comes later is not its own"
    assert second.to_dict()["continues"] == first.id
    assert kit.cascades.threads.get(**pair) == second.id


def test_the_log_says_whether_a_thread_is_new_or_goes_on(
    kit: Kit, pair: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """R97, R98: "Saved session mapping" on first use, "Resuming session: <id>" after that."""
    with caplog.at_level(logging.INFO, "celery_cascade"):
        first = kit.start("a", **pair)
        assert [text for text in caplog.messages if "Saved session mapping" in text and first.id in text]
        kit.deliver()
        caplog.clear()
        kit.start("a", **pair)
        assert [text for text in caplog.messages if text.startswith(f"Resuming session: {first.id}")]
        caplog.clear()
        kit.start("a")
        assert not [text for text in caplog.messages if "mapping" in text or "Resuming" in text]


def test_everything_is_restarted_and_the_thread_goes_on(
    any_kit: Kit, make_kit: Callable[..., Kit], pair: dict[str, str]
) -> None:
    """R104: nothing is remembered but what SQL holds."""
    first = ask(give_chat(any_kit), "one", **pair)
    any_kit.deliver()
    later = give_chat(make_kit(any_kit.url))
    assert later.cascades.threads.get(**pair) == first.id
    second = ask(later, "two", **pair)
    later.deliver()
    assert second.result(timeout=5) == 2
    assert said(second) == ["one", "answer 1", "two", "answer 2"]


def test_a_thread_of_another_resource_is_another_thread(kit: Kit, pair: dict[str, str]) -> None:
    """R102: of the same name; neither is seen, taken over nor deleted."""
    give_chat(kit)
    ask(kit, "I am Ann", **pair)
    bob = pair | {"resource_id": "bob"}
    bobs = ask(kit, "I am Bob", **bob)
    assert (bobs.continues, said(bobs)) == (None, ["I am Bob"])
    threads = kit.cascades.threads
    assert threads.delete(pair["thread_id"], "eve") is False
    assert threads.get(pair["thread_id"], "eve") is None
    assert threads.metadata(pair["thread_id"], "eve") is None
    assert [one["session_id"] for one in threads.list("bob")] == [bobs.id]
    with pytest.raises(SessionNotFound):
        threads.save("mine", "eve", bobs.id)


def test_a_thread_without_a_resource_is_one_of_default_and_a_resource_alone_is_none(kit: Kit) -> None:
    """R101's default; a resource without a thread is a word to find sessions by."""
    first = kit.start("a", thread_id="t")
    assert first.to_dict()["resource_id"] == "default"
    assert kit.cascades.threads.get("t", "default") == first.id
    lone = kit.start("a", resource_id="ann")
    assert list(kit.cascades.threads.list("ann")) == []
    assert list(kit.cascades.sessions(resource_id="ann")) == [lone]


def test_a_start_that_is_refused_leaves_the_thread_as_it_was(kit: Kit, pair: dict[str, str]) -> None:
    """R97: bad input changes nothing."""
    give_chat(kit)
    with pytest.raises(InputError):
        kit.cascades.start(CHAT, {"nonsense": 1}, **pair)
    assert kit.cascades.threads.get(**pair) is None
    assert kit.rows()["cascade_sessions"] == 0


# -- the mapping by hand
def test_metadata_is_json_with_its_times(kit: Kit, pair: dict[str, str]) -> None:
    """R91, R96, R107: when it was created, and when it was last used."""
    session = kit.start("a", **pair)
    found = kit.cascades.threads.metadata(**pair)
    assert found is not None
    assert json.loads(json.dumps(found)) == found
    assert found | {"created_at": "", "updated_at": ""} == {
        **pair, "session_id": session.id, "created_at": "", "updated_at": "",
    }  # fmt: skip
    assert found["created_at"] == found["updated_at"]
    assert found["created_at"].endswith("Z")


def test_the_pages_of_a_list_are_walked_by_their_cursor(kit: Kit) -> None:
    """R91."""
    threads = kit.cascades.threads
    for number in range(5):
        kit.start("a", thread_id=f"t{number}", resource_id="ann")
    seen, cursor = [], None
    while True:
        page = threads.list("ann", limit=2, cursor=cursor)
        seen += [one["thread_id"] for one in page]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ["t4", "t3", "t2", "t1", "t0"]
    assert threads.list("ann", limit=5).next_cursor is None, "there is nothing after the last"


@pytest.mark.parametrize(
    "call",
    [
        lambda threads: threads.get("", "ann"),
        lambda threads: threads.get("t", None),
        lambda threads: threads.get("t" * 256, "ann"),
        lambda threads: threads.delete("\x00", "ann"),
        lambda threads: threads.list("ann", limit=0),
        lambda threads: threads.list("ann", limit=True),
        lambda threads: threads.list("ann", limit=1001),
        lambda threads: threads.list("ann", cursor="nonsense"),
        lambda threads: threads.list("ann", cursor="WyIyMDMwLTAxLTAxIiwgInQiXQ=="),  # its time bears no zone
        lambda threads: threads.list("ann", cursor=7),
        lambda threads: threads.list(None),
        lambda threads: threads.save("t", 7, "id"),
        lambda threads: threads.save("t", "ann", 7),
    ],
)
def test_what_can_be_no_thread_is_refused_in_words(kit: Kit, call: Any) -> None:
    """R150."""
    with pytest.raises(UsageError):
        call(kit.cascades.threads)


def test_a_message_from_outside_moves_the_last_activity(kit: Kit, pair: dict[str, str]) -> None:
    """R99."""
    session = kit.start("a", **pair)
    kit.sql("UPDATE session_mappings SET updated_at = '2020-01-01 00:00:00.000000'")
    session.say("user", "are you there?")
    found = kit.cascades.threads.metadata(**pair)
    assert found is not None
    assert found["updated_at"] >= found["created_at"]


# -- a start that waits
def test_a_queued_start_begins_when_the_one_before_it_has_ended(any_kit: Kit, pair: dict[str, str]) -> None:
    """D12: by whoever writes that end; nobody asks for it, and no Beat is needed."""
    kit = give_chat(any_kit)
    started: list[str] = []

    @session_started.connect
    def note(sender: Any, session_id: str, **_: Any) -> None:
        started.append(session_id)

    first = ask(kit, "one", **pair)
    second, third = ask(kit, "two", queue=True, **pair), ask(kit, "three", queue=True, **pair)
    assert [one.status for one in (first, second, third)] == ["active", "suspended", "suspended"]
    assert (second.reason, second.continues, third.continues) == ("signal", first.id, second.id)
    assert started == [first.id]
    kit.deliver()
    session_started.disconnect(note)
    assert [one.result(timeout=5) for one in (first, second, third)] == [1, 2, 3]
    assert said(third) == ["one", "answer 1", "two", "answer 2", "three", "answer 3"]
    assert started == [first.id, second.id, third.id]
    assert kit.ran == ["answer/1"] * 3


def test_without_queue_it_is_a_conflict_that_names_the_session_and_the_ways_out(kit: Kit, pair: dict[str, str]) -> None:
    """D12, R150."""
    first = kit.start("a", **pair)
    with pytest.raises(SessionConflict, match=f"{first.id}, which is active") as caught:
        kit.start("a", **pair)
    assert "queue=True" in caught.value.hint
    assert kit.rows()["cascade_sessions"] == 1


def test_who_waits_for_its_output_waits_for_its_turn_too(kit: Kit, pair: dict[str, str]) -> None:
    """D12: to be queued is no reason to give up; what somebody has to lift is."""
    first = kit.start("a", **pair)
    second = kit.start("a", queue=True, **pair)
    with pytest.raises(SessionTimeout, match="it goes on"):
        second.result(timeout=0.05)
    first.suspend()
    with pytest.raises(NotResumable, match="operator"):
        first.result(timeout=0.05)


def test_an_end_by_hand_lets_the_next_begin(kit: Kit, pair: dict[str, str]) -> None:
    """D12: cancelled, expired, deleted: the line moves on."""
    sessions = [kit.start("a", **pair)] + [kit.start("a", queue=True, **pair) for _ in range(4)]
    sessions[0].cancel()
    assert sessions[1].status == "active"
    expire_all(kit, sessions[1])
    overtime.expire(kit.runtime)
    assert (sessions[1].status, sessions[2].status) == ("expired", "active")
    sessions[2].suspend()
    assert sessions[3].status == "suspended"
    sessions[2].delete()
    assert sessions[3].status == "active"
    sessions[4].cancel()
    assert sessions[3].status == "active"


def test_a_resume_of_a_queued_session_says_for_whom_it_waits(kit: Kit, pair: dict[str, str]) -> None:
    """D12, R153: not even by force."""
    first = kit.start("a", **pair)
    second = kit.start("a", queue=True, **pair)
    with pytest.raises(SessionConflict, match=f"waits for session {first.id}"):
        second.resume()
    assert resume_all(kit.runtime)["skipped"] == {second.id: "signal"}
    with pytest.raises(SessionConflict, match="is suspended; it cannot be suspended"):
        second.suspend()


def test_one_that_has_expired_while_it_was_queued_never_runs(kit: Kit, pair: dict[str, str]) -> None:
    """R45: also if its turn comes before anybody has looked for what has expired."""
    first = kit.start("a", **pair)
    second = kit.start("a", queue=True, expires_in=3600, **pair)
    third = kit.start("a", queue=True, **pair)
    expire_all(kit, second)
    kit.deliver()
    assert (first.status, second.status, third.status) == ("completed", "suspended", "suspended")
    overtime.expire(kit.runtime)
    kit.deliver()
    assert (second.status, third.status) == ("expired", "completed")
    with pytest.raises(NotResumable, match="expired"):
        second.resume()


@pytest.mark.parametrize(
    "options",
    [{"queue": True}, {"queue": True, "resource_id": "ann"}, {"queue": 1, "thread_id": "t"}],
    ids=["no thread", "a resource alone", "no bool"],
)
def test_what_cannot_wait_is_refused(kit: Kit, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="queue"):
        kit.start("a", **options)


def test_what_runs_here_and_now_cannot_wait(kit: Kit, pair: dict[str, str]) -> None:
    kit.start("a", **pair)
    with pytest.raises(UsageError, match="here and now"):
        kit.run("a", queue=True, **pair)


def test_where_nobody_listens_the_next_is_run_by_who_ran_the_last(
    make_kit: Callable[..., Kit], sqlite_store: str, pair: dict[str, str]
) -> None:
    """`task_always_eager`: a step starts the next turns of its own thread; they run after it, in a line."""
    kit = make_kit(sqlite_store, task_always_eager=True)
    later: list[Session] = []

    @kit.task("starts")
    def starts() -> None:
        later.extend(kit.start("a", queue=True, **pair) for _ in range(3))

    first = kit.start({"id": "s", "task": "starts"}, **pair)
    assert [one.status for one in [first, *later]] == ["completed"] * 4
    assert kit.ran == ["s/1", "a/1", "a/1", "a/1"]


def test_a_session_whose_steps_are_all_left_out_has_its_turn_too(kit: Kit, pair: dict[str, str]) -> None:
    first = kit.start("a", **pair)
    nothing = kit.start({"id": "s", "task": "add", "when": "{{ false }}"}, queue=True, **pair)
    third = kit.start("a", queue=True, **pair)
    kit.deliver()
    assert [one.status for one in (first, nothing, third)] == ["completed"] * 3


# -- whoever should begin it dies
@pytest.mark.parametrize(
    "points",
    [
        [CrashPoint.ENDED],
        [CrashPoint.REVIVE_OPEN],
        [CrashPoint.REVIVED],
        [CrashPoint.ENDED, CrashPoint.PUBLISH],
    ],
    ids=lambda points: points[-1].value,
)
def test_a_turn_that_was_not_begun_is_begun_by_the_next_look(
    any_kit: Kit, make_kit: Callable[..., Kit], pair: dict[str, str], points: list[CrashPoint]
) -> None:
    """D12, rule 6: between the end, the begin, its commit and its messages; no message is needed for it."""
    kit = give_chat(any_kit)
    first = ask(kit, "one", **pair)
    second, third = ask(kit, "two", queue=True, **pair), ask(kit, "three", queue=True, **pair)
    die_at(*points)
    with pytest.raises(Crash):
        kit.deliver()
    assert first.status == "completed"
    kit.messages()  # whatever was on its way is lost
    other = give_chat(make_kit(kit.url))
    found = resume_all(other.runtime)["resumed"]
    begun = points[0] is CrashPoint.REVIVED or len(points) > 1
    assert (second.id in found) is not begun, "if it was begun, only its message is missing"
    kit.sql("UPDATE session_steps SET wake_at = queued_at WHERE status = 'queued'")
    resume_all(other.runtime)
    other.deliver()
    assert [one.result(timeout=5) for one in (second, third)] == [2, 3]
    assert [step for step in other.ran if step.startswith("answer/")] == ["answer/1"] * 2  # others' sessions aside


def test_a_start_whose_predecessor_ends_in_that_moment_does_not_wait_for_a_sweep(
    kit: Kit, pair: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """D12: the end was written after the start had looked, and who wrote it looked before the start was there."""
    first = kit.start("a", **pair)
    start = kit.store.start

    def late(*args: Any, **options: Any) -> bool:
        begun = start(*args, **options)
        monkeypatch.setattr(kit.store, "turn_after", lambda _: None)
        first.cancel()
        return begun

    monkeypatch.setattr(kit.store, "start", late)
    assert kit.start("a", queue=True, **pair).status == "active"


def test_a_store_that_is_away_as_the_next_is_to_begin_does_not_harm_who_has_ended(
    kit: Kit, pair: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule 6: a sweep makes good what fails here."""
    first = kit.start("a", **pair)
    second = kit.start("a", queue=True, **pair)

    def away(_: str) -> None:
        raise StoreUnavailable("it is away", hint="Wait")

    with monkeypatch.context() as patch:
        patch.setattr(kit.store, "turn_after", away)
        kit.deliver()
    assert (first.status, second.status) == ("completed", "suspended")
    assert second.id not in caplog.text
    assert kit.recover().begun == [second.id]
    kit.deliver()
    assert second.status == "completed"
