"""What a cascade file can say, and what a task may do inside a step."""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject

from celery_cascade import current_session
from celery_cascade.errors import SessionFailed
from celery_cascade.persistence import packets
from celery_cascade.persistence.store import Store
from sessions.kit import Kit, cascade


def outcome(session: Any) -> dict[str, str]:
    return {step["step"]: step["status"] for step in session.steps}


# -- retries
def test_a_step_gives_up_after_max_attempts(kit: Kit) -> None:
    """R161: failures count, each is kept with its traceback, which ends with where it was and how to go on."""
    session = kit.run({"id": "a", "task": "broken", "retry": {"max_attempts": 3, "delay": "0s"}})
    assert session.status == "failed"
    assert kit.ran == ["a/1", "a/2", "a/3"]
    attempts = session.attempts
    assert [row["attempt"] for row in attempts] == [1, 2, 3]
    assert "ValueError: fixed is not there" in attempts[-1]["traceback"]
    assert session.to_dict()["error"] == {
        "type": "ValueError", "message": "fixed is not there", "step": "a", "item": None, "attempt": 3,
    }  # fmt: skip


def test_only_the_named_errors_are_tried_again(kit: Kit) -> None:
    """The bases of an error count; another error ends the step at once."""

    @kit.task("raises")
    def raises() -> None:
        session = current_session()
        assert session is not None
        raise [ConnectionResetError("lost"), KeyError("other")][session.attempt - 1]

    retry = {"max_attempts": 9, "delay": "0s", "errors": ["ConnectionError"]}
    session = kit.run({"id": "a", "task": "raises", "retry": retry})
    assert kit.ran == ["a/1", "a/2"]
    assert session.to_dict()["error"]["type"] == "KeyError"


def test_the_waits_grow_as_the_backoff_says(kit: Kit) -> None:
    """exponential: delay, twice, four times …, never longer than max_delay."""
    moments = []

    @kit.task("late")
    def late() -> None:
        moments.append(time.monotonic())
        raise OSError

    retry = {"max_attempts": 6, "delay": "0.1s", "backoff": "exponential", "max_delay": "0.2s"}
    kit.run({"id": "a", "task": "late", "retry": retry})
    waits = [round(after - before, 3) for before, after in pairwise(moments)]
    assert waits[0] >= 0.1
    assert waits[1] >= 0.2
    assert 0.2 <= waits[4] < 1.5  # without a longest one: 1.6


def test_a_task_may_ask_for_a_retry_with_other_arguments(kit: Kit) -> None:
    """self.retry: nothing is published, the next attempt has the changed arguments; it counts apart from failures."""
    retries = []

    @kit.app.task(name="asks", bind=True, shared=False, max_retries=5)
    def asks(self: Any, x: int) -> int:
        kit.note()
        retries.append(self.request.retries)
        if x < 3:
            raise self.retry(args=(x + 1,), kwargs={}, countdown=0)
        return x

    session = kit.run({"id": "a", "task": "asks", "with": [1]})
    assert session.output == 3
    assert kit.ran == ["a/1", "a/2", "a/3"]
    assert retries == [0, 1, 2]
    assert [row["kind"] for row in session.attempts] == ["retry", "retry"]
    assert kit.messages() == []


def test_a_retry_with_arguments_that_are_not_json_fails_the_step_once(kit: Kit) -> None:
    """R84: named, not taken for a crash that is tried again and again."""

    @kit.app.task(name="asks", bind=True, shared=False)
    def asks(self: Any, x: Any) -> None:
        kit.note()
        raise self.retry(args=({1, 2},), countdown=0)

    session = kit.run({"id": "a", "task": "asks", "with": [1]})
    assert kit.ran == ["a/1"]
    assert session.status == "failed"
    assert "arguments of the retry of step 'a'.args[0]: set is not JSON" in session.to_dict()["error"]["message"]


def test_autoretry_for_is_honoured(kit: Kit) -> None:
    """R87: as in Celery, until max_retries; then the error itself fails the step."""

    @kit.app.task(
        name="auto", bind=True, shared=False, autoretry_for=(OSError,), max_retries=2, default_retry_delay=0,
        retry_backoff=False, retry_jitter=False,
    )  # fmt: skip
    def auto(self: Any) -> None:
        kit.note()
        raise OSError(f"try {self.request.retries}")

    session = kit.run({"id": "a", "task": "auto"})
    assert kit.ran == ["a/1", "a/2", "a/3"]
    assert session.to_dict()["error"]["message"] == "try 2"


def test_ignore_skips_the_step_and_reject_fails_it(kit: Kit) -> None:
    """Ignore: `skipped`, and what needs it alone is skipped too; Reject: failed, whatever the retry policy says."""

    @kit.task("ignores")
    def ignores() -> None:
        raise Ignore

    @kit.task("rejects")
    def rejects(requeue: bool = False) -> str:
        session = current_session()
        assert session is not None
        if requeue and session.attempt > 1:
            return "later"
        raise Reject("no", requeue=requeue)

    session = kit.run({"id": "a", "task": "ignores"}, "b")
    assert (session.status, session.output) == ("completed", None)
    assert [(s["status"], s["reason"]) for s in session.steps] == [("skipped", "ignored"), ("skipped", "needs")]
    assert [point["step"] for point in session.checkpoints] == ["a"]
    failed = kit.run({"id": "a", "task": "rejects", "retry": {"max_attempts": 5}}, "b")
    assert outcome(failed) == {"a": "failed", "b": "pending"}


def test_reject_with_requeue_runs_later(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """No failure is counted."""
    monkeypatch.setattr("celery_cascade.tasks.guard_step.REQUEUE_DELAY", 0.05)

    @kit.task("rejects")
    def rejects() -> str:
        session = current_session()
        assert session is not None
        if session.attempt == 1:
            raise Reject("not here", requeue=True)
        return "later"

    session = kit.run({"id": "a", "task": "rejects"})
    assert session.output == "later"
    assert [row["kind"] for row in session.attempts] == ["requeue"]


# -- the graph
def test_when_that_is_false_skips_and_a_join_goes_on_with_the_others(kit: Kit) -> None:
    """A skipped step satisfies needs, its output is null; a step all of whose needs were skipped is skipped."""
    session = kit.run(
        "a",
        {"id": "no", "task": "add", "needs": ["a"], "when": "{{ outputs.a > 5 }}"},
        {"id": "after_no", "task": "add", "needs": ["no"]},
        {"id": "yes", "task": "add", "needs": ["a"], "when": "{{ outputs.a == 1 }}"},
        {"id": "join", "task": "echo", "needs": ["after_no", "yes"],
         "with": [["{{ outputs.after_no }}", "{{ outputs.yes }}"]]},
        {"id": "gone", "task": "add", "needs": ["no", "after_no"]},
    )  # fmt: skip
    assert session.status == "completed"
    assert outcome(session) == {
        "a": "succeeded", "no": "skipped", "after_no": "skipped", "yes": "succeeded", "join": "succeeded",
        "gone": "skipped",
    }  # fmt: skip
    assert session.output == {"join": [None, 1], "gone": None}
    numbers = [point["number"] for point in session.checkpoints]
    assert numbers == sorted(set(numbers))


def test_a_cascade_whose_steps_are_all_skipped_completes(kit: Kit) -> None:
    """Nothing runs, nothing is sent, and it does not wait for anybody."""
    session = kit.start({"id": "a", "task": "add", "when": False}, "b")
    assert session.status == "completed"
    assert kit.messages() == []
    assert session.result(0) is None
    assert session.checkpoints == []
    joined = kit.start(
        {"id": "a", "task": "add", "needs": [], "when": False},
        {"id": "b", "task": "add", "needs": [], "when": False},
        {"id": "j", "task": "add", "needs": ["a", "b"]},
    )
    kit.deliver()
    assert outcome(joined) == {"a": "skipped", "b": "skipped", "j": "skipped"}
    assert joined.status == "completed"


def test_several_leaves_give_a_mapping_and_output_gives_what_it_says(kit: Kit) -> None:
    """One last step: its output; several: id -> output; `output:` decides otherwise, null included."""
    two = (
        {"id": "a", "task": "add", "needs": []},
        {"id": "b", "task": "echo", "needs": [], "with": {"z": "{{ inputs.z }}"}},
    )
    assert kit.run(*two, inputs={"z": [1]}).output == {"a": 1, "b": {"z": [1]}}
    given = cascade(*two, output={"sum": "{{ outputs.a + 1 }}", "of": "{{ session.id }}", "text": "{{ outputs.a }}!"})
    session = kit.cascades.run(given, {"z": 1})
    assert session.output == {"sum": 2, "of": session.id, "text": "1!"}
    assert kit.cascades.run(cascade("a", output=None)).output is None


def test_defaults_are_merged_key_by_key(kit: Kit) -> None:
    """A step's own retry changes what it names; null takes a default away."""
    given = {
        "cascade": "test",
        "defaults": {"retry": {"max_attempts": 3, "delay": "0s"}, "timeout": "5m", "queue": "slow"},
        "steps": [
            {"id": "a", "task": "add", "retry": {"max_attempts": 2}},
            {"id": "b", "task": "add", "timeout": None, "queue": "fast"},
        ],
    }
    session = kit.cascades.start(given)
    steps = kit.runtime.facts(session.id).plan.steps
    assert (steps["a"].retry.max_attempts, steps["a"].retry.delay) == (2, 0)
    assert (steps["b"].retry.max_attempts, steps["b"].timeout, steps["b"].queue) == (3, None, "fast")
    assert (steps["a"].timeout, steps["a"].queue) == (300, "slow")


def test_values_are_data_and_keep_their_type(kit: Kit) -> None:
    """A text that is one expression keeps its type, what comes out of it is never looked at for templates again."""
    session = kit.run(
        {"id": "a", "task": "echo", "with": {"one": "{{ inputs.n }}", "text": "n={{ inputs.n }}"}},
        {"id": "b", "task": "echo", "with": {"again": "{{ outputs.a.evil }}", "was": "{{ outputs.a }}"},
         "when": "{{ outputs.a.one == 123 }}"},
        inputs={"n": "123", "evil": "{{ inputs.n }}"},
    )  # fmt: skip
    assert session.steps[1]["status"] == "skipped"  # "123" is no 123
    assert session.steps[0]["output"] == {"one": "123", "text": "n=123"}
    evil = kit.run({"id": "a", "task": "echo", "with": ["{{ inputs.evil }}"]}, inputs={"evil": "{{ 7 * 7 }}"})
    assert evil.output == "{{ 7 * 7 }}"


# -- time
def test_a_step_past_its_timeout_is_ended_and_fenced(kit: Kit) -> None:
    """A deadline in SQL, swept by anybody: the late body counts for nothing, the next attempt follows the policy."""

    @kit.task("slow")
    def slow() -> str:
        session = current_session()
        assert session is not None
        if session.attempt == 1:
            kit.sql("UPDATE session_steps SET deadline = '2001-01-01 00:00:00.000000' WHERE session_id = :id",
                    id=session.id)  # fmt: skip
            assert kit.recover().timed_out == 1
            return "late"
        return "in time"

    step = {"id": "a", "task": "slow", "timeout": "1h", "retry": {"max_attempts": 2, "delay": "0s"}}
    session = kit.run(step)
    assert session.output == "in time"
    assert [(row["kind"], "StepTimeout" in row["error"]) for row in session.attempts] == [("timeout", True)]


def test_a_timeout_ends_a_step_that_runs_here(kit: Kit) -> None:
    """Without any worker: while the body runs a thread looks at the clock."""

    @kit.task("slow")
    def slow() -> str:
        time.sleep(0.8)
        return "late"

    session = kit.run({"id": "a", "task": "slow", "timeout": "0.1s"}, "b")
    with pytest.raises(SessionFailed, match=r"step 'a': StepTimeout: step 'a' took longer than its timeout of 0\.1 s"):
        session.result(0)
    assert outcome(session) == {"a": "failed", "b": "pending"}


def test_a_session_expires_while_it_runs_here(kit: Kit) -> None:
    """R45: no worker and no Beat is needed: the step that runs ends, nothing follows."""

    @kit.task("slow")
    def slow() -> str:
        time.sleep(2.0)
        return "done"

    session = kit.run({"id": "a", "task": "slow"}, "b", expires_in=1.5)  # long enough to begin on a busy machine
    assert session.status == "expired"
    assert outcome(session) == {"a": "succeeded", "b": "cancelled"}


# -- inside a step
def test_current_session_is_there_inside_a_step_only(kit: Kit) -> None:
    """Also in a task that the step calls directly, as long as it is in the step's own call."""
    seen: list[Any] = []

    @kit.app.task(name="inner", shared=False)
    def inner() -> str:
        seen.append(current_session())
        return "inner"

    @kit.app.task(name="outer", shared=False)
    def outer() -> str:
        before = current_session()
        given = inner()
        seen.append(before)
        inner.apply()
        return str(given)

    assert current_session() is None
    session = kit.run({"id": "a", "task": "outer"})
    assert current_session() is None
    assert session.output == "inner"
    found = [(one.id, one.step, one.item, one.attempt) for one in seen]
    assert found == [(session.id, "a", None, 1)] * 3
    assert [step["step"] for step in session.steps] == ["a"]
    inner()
    assert seen[-1] is None


def test_an_output_that_the_database_server_refuses_for_its_size_fails_its_step(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R83: MySQL's max_allowed_packet; tried again, it would be refused for ever."""

    def refuse(*_: object) -> None:
        raise packets.refusal(18_000_000, 16_000_000)

    monkeypatch.setattr(Store, "checkpoint", refuse)
    session = kit.run("a", "b")
    assert session.status == "failed"
    assert kit.sql("SELECT step, status FROM session_steps") == [("a", "failed")]
    assert "max_allowed_packet" in str(kit.sql("SELECT error FROM step_attempts"))
    assert kit.ran == ["a/1"]


def test_options_that_a_retry_inside_a_step_cannot_have_are_told(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """R150: nothing is left out without a word."""

    @kit.task("moves", bind=True)
    def moves(self: Any) -> str:
        if not self.request.retries:
            raise self.retry(countdown=0, queue="elsewhere", priority=3)
        return "done"

    with caplog.at_level(logging.WARNING, "celery_cascade"):
        assert kit.run({"id": "a", "task": "moves"}).output == "done"
    assert "step a: self.retry(queue='elsewhere', priority=3): left out" in caplog.text
