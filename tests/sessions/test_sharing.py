"""What steps do to their session's context and conversation: counts with the checkpoint, and not before."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from celery.exceptions import Ignore

from celery_cascade import Session, StepStatus, current_session, run_cascade
from celery_cascade.errors import NotSerializable, PayloadTooLarge, SessionConflict, StaleState, UsageError
from celery_cascade.sessions.current import CurrentSession
from celery_cascade.tasks.local_worker import local_worker
from sessions.kit import Kit, cascade

Body = Callable[[CurrentSession], Any]


def do(kit: Kit, *bodies: Body, **options: Any) -> list[dict[str, Any]]:
    """Steps, one after the other, with these bodies; they are given their session."""
    return [{"id": f"s{number}", "task": as_task(kit, body, **options)} for number, body in enumerate(bodies)]


def as_task(kit: Kit, body: Body, **options: Any) -> str:
    name = f"does{len(kit.app.tasks)}"

    @kit.task(name, **options)
    def task() -> Any:
        session = current_session()
        assert session is not None
        return body(session)

    return name


def add_one(session: CurrentSession) -> None:
    session.context["n"] = session.context.get("n", 0) + 1
    session.context.setdefault("seen", []).append(session.step)
    session.say("assistant", f"{session.step} has {session.context['n']}", mood="good")


def said(session: Session) -> list[Any]:
    return [message["content"] for message in session.conversation_history]


def test_each_step_goes_on_from_what_the_one_before_it_left(any_kit: Kit) -> None:
    """R139, R42: nested changes too; one version a step, as without them."""
    session = any_kit.start(*do(any_kit, add_one, add_one), "plain", context={"n": 10, "on": date(2030, 1, 2)})
    assert (session.context, session.version) == ({"n": 10, "on": date(2030, 1, 2)}, 1)
    any_kit.deliver()
    assert session.status == "completed"
    assert session.context == {"n": 12, "on": date(2030, 1, 2), "seen": ["s0", "s1"]}
    assert session.version == 1 + 3 + 1  # three checkpoints and the end
    assert session.conversation_history == [
        {"role": "assistant", "content": "s0 has 11", "mood": "good"},
        {"role": "assistant", "content": "s1 has 12", "mood": "good"},
    ]
    told = [(entry["version"], entry["step"], entry["actor"], entry["changes"]) for entry in session.context_history]
    assert told == [
        (1, None, None, [
            {"change": "set", "path": ["n"], "value": 10},
            {"change": "set", "path": ["on"], "value": date(2030, 1, 2)},
        ]),
        (2, "s0", None, [
            {"change": "set", "path": ["n"], "value": 11},
            {"change": "added", "path": ["seen"], "value": ["s0"]},
        ]),
        (3, "s1", None, [
            {"change": "set", "path": ["n"], "value": 12},
            {"change": "added", "path": ["seen"], "value": ["s1"]},
        ]),
    ]  # fmt: skip
    assert all(entry["at"].endswith("Z") for entry in session.context_history)


def test_it_is_the_same_eagerly_and_in_this_process(kit: Kit, make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R13: `run`, `run_cascade` and `task_always_eager` go the same way."""
    session = kit.run(*do(kit, add_one), context={"n": 1})
    assert (session.context, said(session)) == ({"n": 2, "seen": ["s0"]}, ["s0 has 2"])
    eager = make_kit(sqlite_store, task_always_eager=True)
    session = eager.start(*do(eager, add_one))
    assert (session.context, said(session)) == ({"n": 1, "seen": ["s0"]}, ["s0 has 1"])
    run_cascade(cascade(*do(eager, add_one)), app=eager.app, session_id="mine")
    assert eager.cascades.session("mine").context == {"n": 1, "seen": ["s0"]}


def test_a_step_sees_what_it_has_changed_and_said_and_nobody_else_does_until_it_ends(kit: Kit) -> None:
    """R139."""
    seen: list[Any] = []

    def look(current: CurrentSession) -> None:
        handle = kit.cascades.session(current.id)
        current.context["a"]["b"].append(2)
        current.say("assistant", {"parts": [1]})
        assert current_session().context is current.context
        seen.extend([dict(current.context), current.conversation_history, handle.context, said(handle)])

    session = kit.start(*do(kit, look), context={"a": {"b": [1]}})
    session.say("user", "hi", lang="en")
    kit.deliver()
    first = {"role": "user", "content": "hi", "lang": "en"}
    assert seen == [
        {"a": {"b": [1, 2]}},
        [first, {"role": "assistant", "content": {"parts": [1]}}],
        {"a": {"b": [1]}},
        ["hi"],
    ]
    assert session.status == "completed", session.to_dict()["error"]
    assert said(session) == ["hi", {"parts": [1]}]


def fail(session: CurrentSession) -> None:
    add_one(session)
    if session.attempt == 1:
        raise ValueError("no")


def leave(session: CurrentSession) -> None:
    add_one(session)
    raise Ignore


def test_what_an_attempt_did_that_did_not_succeed_is_dropped(any_kit: Kit) -> None:
    """R139, D11: of a failed attempt, of one that asks for a retry, and of a step that is skipped."""

    @any_kit.task("asks", bind=True, max_retries=1)
    def asks(task: Any) -> None:
        add_one(current_session())
        if task.request.retries == 0:
            raise task.retry(countdown=0)

    steps = [*do(any_kit, fail), {"id": "asks", "task": "asks"}, {"id": "left", "task": as_task(any_kit, leave)}]
    steps[0]["retry"] = {"max_attempts": 2, "delay": 0}
    session = any_kit.run(*steps)
    assert session.status == "completed", session.to_dict()["error"]
    assert any_kit.ran == ["s0/1", "s0/2", "asks/1", "asks/2", "left/1"]
    assert session.context == {"n": 2, "seen": ["s0", "asks"]}
    assert said(session) == ["s0 has 1", "asks has 2"]
    assert [entry["step"] for entry in session.context_history] == ["s0", "asks"]


def test_operators_of_dicts_work_inside_a_step(kit: Kit) -> None:
    """R42: as on the handle."""

    def update(current: CurrentSession) -> None:
        current.context |= {"n": 2, "new": [1]}
        with pytest.raises(UsageError, match="not assigned as a whole"):
            current.context = {"n": 3}

    session = kit.run(*do(kit, update), context={"n": 1, "a": 1})
    assert session.status == "completed"
    assert session.context == {"n": 2, "a": 1, "new": [1]}


def test_a_step_that_changes_nothing_leaves_no_trace(kit: Kit) -> None:
    """R42, R139."""

    def nothing(session: CurrentSession) -> None:
        session.context["n"] += 1
        session.context["n"] -= 1
        session.context["a"] = session.context.pop("a")
        session.context["l"].extend([])

    session = kit.run(*do(kit, nothing, lambda current: len(current.context)), context={"a": 1, "l": [], "n": 1})
    assert [entry["step"] for entry in session.context_history] == [None]


def test_steps_side_by_side_each_keep_what_they_changed(any_kit: Kit) -> None:
    """R139: other keys, and the ends of a list; of one key, what ended last. The change is against what was read."""
    inside: list[str] = []

    def one(session: CurrentSession) -> None:
        session.context["one"] = 1
        session.context["both"].append("one")
        session.context["last"] = "one"
        inside.append("one")
        if len(inside) == 1:  # the other runs, and ends, in the middle of this one
            any_kit.receive(others.pop())

    def other(session: CurrentSession) -> None:
        session.context["other"] = 2
        session.context["both"].append("other")
        session.context["last"] = "other"
        inside.append("other")

    steps = [{"id": step, "task": as_task(any_kit, body), "needs": []} for step, body in (("a", one), ("b", other))]
    session = any_kit.start(*steps, {"id": "c", "task": "add", "needs": ["a", "b"]}, context={"both": []})
    first, second = any_kit.messages()
    if first.headers["cascade_step"]["step"] == "b":
        first, second = second, first
    others = [second]
    with_worker(any_kit, lambda: any_kit.receive(first))
    any_kit.deliver()
    assert inside == ["one", "other"]
    assert session.status == "completed"
    assert session.context == {"one": 1, "other": 2, "both": ["other", "one"], "last": "one"}


def with_worker(kit: Kit, work: Callable[[], Any]) -> None:
    with local_worker(kit.runtime):
        work()


# -- what cannot be stored


def put(value: Any) -> Body:
    def body(session: CurrentSession) -> str:
        session.context["fine"] = "x" * 100
        session.context["big"] = value
        session.say("assistant", "done")
        return "output"

    return body


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("x" * 2000, "PayloadTooLarge", r"the limit is 1,000; its largest entry is 'big' with 2,002"),
        ([{"deep": {1, 2}}], "NotSerializable", r"context of session \S+\.big\[0\]\.deep: set is not JSON"),
    ],
)
def test_a_context_that_cannot_be_stored_fails_its_step(
    make_kit: Callable[..., Kit], sqlite_store: str, value: Any, kind: str, message: str
) -> None:
    """R83, R84: as an output that cannot be; for good, at once, with nothing of it written."""
    kit = make_kit(sqlite_store, cascade_max_payload_bytes=1000)
    session = kit.start(*do(kit, put(value)), "b")
    kit.deliver()
    assert session.status == "failed"
    assert kit.ran == ["s0/1"]
    error = session.to_dict()["error"]
    assert error["type"].endswith(kind)
    assert error["step"] == "s0"
    assert re.search(message, error["message"])
    assert (session.context, said(session), session.context_history) == ({}, [], [])


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("user", "x" * 2000, {}), PayloadTooLarge, "message of 'user' is 2,0.. bytes"),
        (("user", "x" * 600, {"more": "x" * 600}), PayloadTooLarge, "the limit is 1,000"),
        (("user", {"deep": [object()]}, {}), NotSerializable, r"message of 'user'\.content\.deep\[0\]: object"),
        (("user", 1, {"at": float("nan")}), NotSerializable, r"message of 'user'\.at: nan"),
        (("", 1, {}), UsageError, "role"),
        (("x" * 51, 1, {}), UsageError, "1 to 50"),
        ((7, 1, {}), UsageError, "role"),
        (("a\0", 1, {}), UsageError, "NUL"),
    ],
)
def test_a_message_that_cannot_be_stored_is_refused_where_it_is_said(
    make_kit: Callable[..., Kit], sqlite_store: str, words: Any, error: type[Exception], message: str
) -> None:
    """R83, R84: inside a step and outside."""
    kit = make_kit(sqlite_store, cascade_max_payload_bytes=1000)
    role, content, extra = words
    told: list[BaseException] = []

    def body(session: CurrentSession) -> None:
        session.say("assistant", "before")
        try:
            session.say(role, content, **extra)
        except error as refused:
            told.append(refused)

    session = kit.start(*do(kit, body))
    version = session.version
    with pytest.raises(error, match=message):
        session.say(role, content, **extra)
    assert session.version == version
    kit.deliver()
    assert len(told) == 1
    assert (session.status, said(session)) == ("completed", ["before"])


def test_a_start_with_a_context_that_cannot_be_stored_starts_nothing(
    make_kit: Callable[..., Kit], sqlite_store: str
) -> None:
    """R83, R84."""
    kit = make_kit(sqlite_store, cascade_max_payload_bytes=1000)
    for context, error, message in (
        ({"n": {1}}, NotSerializable, r"context\.n: set"),
        ({"big": "x" * 2000}, PayloadTooLarge, "its largest entry is 'big'"),
        ({1: 2}, NotSerializable, "key 1"),
        ([1], UsageError, r"context is \[1\]; it must be a mapping"),
    ):
        with pytest.raises(error, match=message):
            kit.start("a", context=context)
    assert set(kit.rows().values()) == {0}


# -- from outside


def test_what_is_said_from_outside_is_numbered_and_told_of_whom(any_kit: Kit) -> None:
    """D12: while the session can still go on."""
    session = any_kit.start("a")
    version = session.version
    assert [session.say("user", "hi"), session.say("user", ["ho"], actor="ann", via="web")] == [1, 2]
    assert session.version == version + 2
    assert session.conversation_history == [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": ["ho"], "via": "web"},
    ]
    assert json.loads(json.dumps(session.conversation_history)) == session.conversation_history
    assert [(a["action"], a["actor"]) for a in session.to_dict()["actions"]] == [("say", "ann")]
    any_kit.deliver()
    with pytest.raises(SessionConflict, match=f"session {session.id} is completed"):
        session.say("user", "too late")
    assert len(session.conversation_history) == 2


def test_who_changes_a_context_from_outside_may_be_told(kit: Kit) -> None:
    """R139."""
    session = kit.start("a")
    with session.context as ctx:
        ctx.actor = "ann"
        ctx["n"] = 1
    session.context["n"] = 2
    del session.context["n"]
    assert [(entry["actor"], entry["changes"]) for entry in session.context_history] == [
        ("ann", [{"change": "set", "path": ["n"], "value": 1}]),
        (None, [{"change": "set", "path": ["n"], "value": 2}]),
        (None, [{"change": "removed", "path": ["n"]}]),
    ]


def test_a_lone_append_to_a_large_context_is_kept_as_that_append(any_kit: Kit) -> None:
    """R42: 1.5 MB, from outside and in a step."""
    big = {"a": {"b": [{"n": number, "text": "ö" * 100} for number in range(7_000)]}}

    def append(session: CurrentSession) -> None:
        session.context["a"]["b"].append(2)

    session = any_kit.start(*do(any_kit, append), context=big)
    ctx = session.context
    ctx["a"]["b"].append(1)
    assert session.version == 2
    any_kit.deliver()
    assert session.context == {"a": {"b": [*big["a"]["b"], 1, 2]}}
    sizes = [len(row["delta"]) for row in any_kit.store.context_changes(session.id)]
    assert sizes[0] > 700_000
    assert max(sizes[1:]) < 100


def test_a_change_from_outside_while_a_step_runs_is_kept_beside_the_step_s_own(kit: Kit) -> None:
    """R38, R139: the step does not undo it; who read before the checkpoint is stale after it."""
    stale: list[Any] = []

    def body(session: CurrentSession) -> None:
        session.context["mine"] = 1
        handle = kit.cascades.session(session.id)
        handle.context["theirs"] = 2
        stale.append(handle.context)

    session = kit.start(*do(kit, body), "b")
    with_worker(kit, lambda: kit.receive(kit.messages()[0]))
    assert session.context == {"mine": 1, "theirs": 2}
    with pytest.raises(StaleState):
        stale[0]["theirs"] = 3
    assert session.steps[0]["status"] == StepStatus.SUCCEEDED
