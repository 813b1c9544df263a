"""`session.at(version)`: what a session was at every version, made of its rows, is what it was seen to be (R23)."""

from __future__ import annotations

from typing import Any

import pytest

from celery_cascade import Session, current_session
from celery_cascade.errors import SessionFailed, UsageError
from celery_cascade.persistence.rows import StepKey
from sessions.kit import Kit
from sessions.trace import Trace

FLAKY = {"id": "b", "task": "flaky", "retry": {"max_attempts": 3, "delay": 0}}


@pytest.fixture
def trace(any_kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Trace:
    return made(any_kit, monkeypatch)


def made(kit: Kit, monkeypatch: Any) -> Trace:
    kit.sql("DELETE FROM session_states")
    kit.sql("DELETE FROM cascade_sessions")

    @kit.task("flaky")
    def flaky() -> str:
        if kit.ran[-1].endswith("/1"):
            raise ValueError("not yet")
        return "there"

    @kit.task("suspends")
    def suspends() -> str:
        me = current_session()
        assert me is not None
        Session(kit.runtime, me.id).suspend(actor="ann", reason="lunch")
        me.context["seen"] = ["stop"]
        me.say("assistant", "lunch?")
        return "done"

    return Trace(kit, monkeypatch)


def lose(kit: Kit, session: Session, name: str, attempt: int = 1, on_crash: str | None = None) -> None:
    """The worker of a step is gone, and recovery finds that out."""
    claim = kit.store.claim(
        StepKey(session.id, name), attempt=attempt, token=f"{name}{attempt}", worker="gone", runner="1.1",
        on_crash=on_crash,
    )  # fmt: skip
    assert claim is not None
    kit.recover()


def test_a_session_with_a_retry_a_join_a_skip_a_crash_and_a_suspension(any_kit: Kit, trace: Trace) -> None:
    """R23: every version, on every database."""
    kit = any_kit
    session = kit.start(
        "a",
        FLAKY,
        {"id": "s", "task": "add", "needs": ["a"], "when": False},
        {"id": "beside", "task": "echo", "needs": ["a"], "with": {"x": "{{ outputs.a }}"}},
        {"id": "stop", "task": "suspends", "needs": ["b", "s", "beside"]},
        {"id": "last", "task": "broken", "needs": ["stop"], "phase": "the end"},
    )
    lose(kit, session, "a")
    kit.deliver()
    assert session.status == "suspended"
    session.context["n"] = {"deep": [1]}
    session.say("user", "go on,\nplease")
    session.context["n"]["deep"].append(2)
    session.keep(actor="bob")
    session.resume(actor="ann", reason="back")
    kit.deliver()
    assert session.status == "failed"
    kit.fix.add("fixed")
    session.resume()
    kit.deliver()
    assert session.status == "completed"
    session.keep(False)
    trace.check(session)

    versions = session.timeline()
    assert [line["version"] for line in versions] == list(range(1, session.version + 1))
    told = [line["what"] for line in versions]
    assert told[0].startswith("started; step a lost its worker in attempt 1: WorkerLost: ")
    assert told[1].startswith("step a succeeded (attempt 2, ")
    assert "step s skipped (when)" in told[1]
    assert any(line.startswith("step b failed in attempt 1: ValueError: not yet") for line in told)
    assert "to be suspended by ann: lunch" in told
    assert "suspended by ann: lunch" in told
    assert told.count("context: n set") == 2
    assert "user said: go on, please" in told
    (spoke,) = [line for line in told if line.startswith("step stop succeeded")]
    assert spoke.endswith("; assistant said: lunch?; context: seen set by step stop")
    assert "kept by bob" in told
    assert "resumed by ann: back" in told
    assert "step last failed (attempt 1): ValueError: fixed is not there" in told
    assert told[-5:-3] == ["failed", "resumed"]
    assert told[-3].startswith("step last succeeded (attempt 2, ")
    assert told[-2:] == ["completed", "no longer kept"]


def test_a_fork_and_the_session_that_it_left(any_kit: Kit, trace: Trace) -> None:
    """R23, R100: a fork begins in the midst; what it has kept is no event of its own."""
    kit = any_kit
    origin = kit.start("a", FLAKY, {"id": "c", "task": "broken", "phase": "third"}, "d")
    origin.say("user", "hello")
    kit.deliver()
    assert origin.status == "failed"
    kit.fix.add("fixed")
    fork = origin.fork(at="c", actor="ann", reason="another try")
    kit.deliver()
    assert fork.status == "completed"
    trace.check(fork)
    trace.check(origin)
    told = [line["what"] for line in fork.timeline()]
    assert told[0].startswith(f"forked from {origin.id} at step c by ann: another try")
    assert [line.split(" (")[0] for line in told[1:]] == ["step c succeeded", "step d succeeded", "completed"]
    again = fork.rerun()
    kit.deliver()
    trace.check(again)
    assert again.timeline()[0]["what"] == f"{fork.id} run again"


def test_a_session_that_waits_for_its_turn_in_a_thread(any_kit: Kit, trace: Trace) -> None:
    """R23, D12: it was suspended before it began."""
    kit, thread = any_kit, {"thread_id": f"t-{any_kit.queue}", "resource_id": "r"}
    first = kit.start("a", **thread)
    waits, never = kit.start("a", "b", queue=True, **thread), kit.start("a", queue=True, **thread)
    first.context["n"] = 1
    first.say("user", "first")
    waits.say("user", "second")
    never.cancel("too long")
    trace.check(waits)
    kit.deliver()
    assert waits.status == "completed"
    for session in (first, waits, never):
        trace.check(session)
    told = [line["what"] for line in waits.timeline()]
    assert told[:2] == [f"queued behind {first.id}", "user said: second"]
    assert told[2].startswith("resumed: its turn in the thread has come; context: n set")
    assert never.timeline()[-1]["what"] == "cancelled: too long"


def test_a_session_that_is_called_off(any_kit: Kit, trace: Trace) -> None:
    """R23: parked, queued and failed steps, then cancelled."""
    kit = any_kit
    session = kit.start("a", {"id": "b", "task": "broken"}, {"id": "c", "task": "add", "needs": ["a"]}, "d")
    kit.deliver()
    assert session.status == "failed"
    session.cancel("enough", actor="ann")
    trace.check(session)
    waits = kit.start("a", "b")
    waits.suspend()
    waits.cancel()
    trace.check(waits)


def test_a_session_in_doubt_and_what_was_answered(any_kit: Kit, trace: Trace) -> None:
    """R23: the reasons are gone from head and steps since."""
    kit = any_kit
    roots = [{"id": name, "task": "add", "needs": [], "on_crash": "ask"} for name in "abc"]
    session = kit.start(*roots, {"id": "d", "task": "add", "needs": ["a", "b", "c"]})
    for name in "abc":
        claim = kit.store.claim(
            StepKey(session.id, name), attempt=1, token=name, worker="gone", runner="1.1", on_crash="ask"
        )
        assert claim is not None
    kit.recover()
    assert (session.status, session.reason) == ("suspended", "in_doubt")
    session.resume(step="b", again=True, actor="ann")
    session.resume(step="a", done=41)
    session.resume(step="c", skip=True)
    kit.deliver()
    assert session.status == "completed"
    trace.check(session)
    told = [line["what"] for line in session.timeline()]
    assert "step b answered: again by ann" in told
    assert any("to be suspended: in_doubt" in line for line in told)


def test_a_step_that_is_poisoned(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """R23: the count of crashes begins anew with a resume."""
    trace = made(kit, monkeypatch)
    session = kit.start("a", "b")
    for attempt in range(1, kit.runtime.config.max_crashes + 1):
        lose(kit, session, "a", attempt)
    assert (session.status, session.reason) == ("suspended", "poisoned")
    session.resume()
    lose(kit, session, "a", kit.runtime.config.max_crashes + 1)
    assert session.at(session.version)["steps"][0]["crashes"] == 1
    kit.deliver()
    trace.check(session)


def test_an_output_that_cannot_be_made_and_can_later(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """R23: the error of the template belongs to the versions at which the session had failed by it."""
    trace = made(kit, monkeypatch)
    session = kit.cascades.start({"cascade": "t", "steps": [{"id": "a", "task": "add"}], "output": "{{ outputs.a.x }}"})
    kit.deliver()
    with pytest.raises(SessionFailed):
        session.result()
    session.resume()
    session.cancel()
    trace.check(session)


def test_ends_that_an_older_worker_did_not_write_down_are_told_all_the_same(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R23: a version that no row bears is the end that had been asked for."""
    trace = made(kit, monkeypatch)
    session = kit.start("a", {"id": "b", "task": "broken"})
    session.suspend()
    session.resume()
    kit.deliver()
    session.cancel()
    noted = kit.sql("SELECT action FROM session_actions WHERE actor = 'celery_cascade' ORDER BY version")
    assert [row[0] for row in noted] == ["suspended", "failed", "cancelled"]
    kit.sql("DELETE FROM session_actions WHERE actor = 'celery_cascade'")
    history = session.history()
    for version, then in trace.states[session.id].items():
        told = history.at(version)
        for key in ("status", "reason", "error", "completed_steps", "progress", "waits_for"):
            assert told[key] == then[key], (version, key)
    assert [line["what"] for line in session.timeline()][-3:] == ["failed", "to be cancelled", "cancelled"]


def test_a_version_that_is_not_there_is_refused_with_the_range(kit: Kit) -> None:
    session = kit.run("a")
    for version in (0, session.version + 1, -1, True, "2", None):
        with pytest.raises(UsageError, match=f"has the versions 1 to {session.version}"):
            session.at(version)  # type: ignore[arg-type]


def test_a_state_is_the_one_of_its_moment(kit: Kit) -> None:
    """R23: definition, inputs, outputs that had ended, where and when."""
    session = kit.run("a", "b")
    first, second = session.at(1), session.at(2)
    assert [step["status"] for step in first["steps"]] == ["queued", "pending"]
    assert first["definition_sha256"] == second["definition_sha256"] == session.source.digest
    assert (first["completed_steps"], second["completed_steps"]) == ([], ["a"])
    assert second["steps"][0]["output"] == 1
    assert second["steps"][1]["output"] is None
    assert second["steps"][0]["worker"]
    assert first["at"] <= second["at"] == second["steps"][0]["finished_at"]
    last = session.at(session.version)
    assert {key: value for key, value in last.items() if key in session.to_dict()} == session.to_dict()


def test_the_moment_at_which_something_ended_is_the_one_that_was_seen_then(any_kit: Kit) -> None:
    """R23: to the microsecond, by the database's own clock: a failed step that ran again later, and its session."""
    kit = any_kit

    @kit.task("first-fails")
    def first_fails() -> str:
        if kit.ran[-1].endswith("/1"):
            raise ValueError("not yet")
        return "there"

    definition = {"cascade": "t", "steps": [{"id": "b", "task": "first-fails"}], "output": "{{ outputs.b.x }}"}
    session = kit.cascades.start(definition)
    seen = []
    for _ in range(2):  # the step fails; then the template of the output
        kit.deliver()
        assert session.status == "failed"
        seen.append(session.to_dict())
        session.resume()
    session.cancel()
    for then in seen:
        now = session.at(then["version"])
        assert now["finished_at"] == then["finished_at"]
        assert [step["finished_at"] for step in now["steps"]] == [step["finished_at"] for step in then["steps"]]
