"""Calls that make no sense are refused in words, and begin nothing (R150)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_cascade import Cascades, run_cascade
from celery_cascade.errors import CascadeError, DefinitionNotFound, InputError, UsageError
from celery_cascade.sessions import resuming
from celery_cascade.tasks import not_repeated, recovery
from sessions.kit import Kit, cascade

CALLS: dict[str, Callable[[Kit], Any]] = {
    "session(int)": lambda kit: kit.cascades.session(123),  # type: ignore[arg-type]
    "session(None)": lambda kit: kit.cascades.session(None),  # type: ignore[arg-type]
    "sessions(status=int)": lambda kit: kit.cascades.sessions(status=5),  # type: ignore[arg-type]
    "sessions(status=[int])": lambda kit: kit.cascades.sessions(status=[5]),  # type: ignore[list-item]
    "sessions(status=word)": lambda kit: kit.cascades.sessions(status="paused"),
    "sessions(cascade=int)": lambda kit: kit.cascades.sessions(cascade=5),  # type: ignore[arg-type]
    "sessions(mode=list)": lambda kit: kit.cascades.sessions(mode=["a"]),  # type: ignore[arg-type]
    "sessions(since=text)": lambda kit: kit.cascades.sessions(since="today"),  # type: ignore[arg-type]
    "sessions(limit=text)": lambda kit: kit.cascades.sessions(limit="x"),  # type: ignore[arg-type]
    "start(int)": lambda kit: kit.cascades.start(5),  # type: ignore[arg-type]
    "start(None)": lambda kit: kit.cascades.start(None),  # type: ignore[arg-type]
    "start(bytes)": lambda kit: kit.cascades.start(b"order.yaml"),  # type: ignore[arg-type]
    "start(expires_in=text)": lambda kit: kit.start("a", expires_in="soon"),
    "start(tags=int)": lambda kit: kit.start("a", tags=5),
    "start(session_id=int)": lambda kit: kit.start("a", session_id=5),
    "run(unknown option)": lambda kit: kit.run("a", sesion_id="x"),
    "register(int)": lambda kit: kit.cascades.register(5),  # type: ignore[arg-type]
    "prune(status=int)": lambda kit: kit.cascades.prune(status=5),  # type: ignore[arg-type]
    "prune(older_than=int)": lambda kit: kit.cascades.prune(older_than=7),  # type: ignore[arg-type]
    "prune(dry_run=text)": lambda kit: kit.cascades.prune(dry_run="no"),  # type: ignore[arg-type]
    "Cascades(text)": lambda kit: Cascades("proj"),  # type: ignore[arg-type]
    "init_app(None)": lambda kit: Cascades().init_app(None),  # type: ignore[arg-type]
    "run_cascade(app=int)": lambda kit: run_cascade("order.yaml", app=5),  # type: ignore[arg-type]
    "result(timeout=text)": lambda kit: kit.start("a").result(timeout="x"),  # type: ignore[arg-type]
    "result(timeout=-1)": lambda kit: kit.start("a").result(timeout=-1),
    "wait(timeout=nan)": lambda kit: kit.start("a").wait(timeout=float("nan")),
    "cancel(reason=int)": lambda kit: kit.start("a").cancel(reason=5),  # type: ignore[arg-type]
    "cancel(actor=list)": lambda kit: kit.start("a").cancel(actor=["x"]),  # type: ignore[arg-type]
    "suspend(reason=int)": lambda kit: kit.start("a").suspend(reason=5),  # type: ignore[arg-type]
    "resume(actor=int)": lambda kit: kit.start("a").resume(actor=5),  # type: ignore[arg-type]
    "task start(list)": lambda kit: kit.app.tasks["celery_cascade.start"](["order"]),
    "task start(None)": lambda kit: kit.app.tasks["celery_cascade.start"](None),
    "task start(unknown)": lambda kit: kit.app.tasks["celery_cascade.start"]("nope"),
    "task resume(int)": lambda kit: kit.app.tasks["celery_cascade.resume"](5),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_nonsense_is_a_usage_error_that_changes_nothing(kit: Kit, call: Callable[[Kit], Any]) -> None:
    with pytest.raises(UsageError) as told:
        call(kit)
    assert told.value.message
    assert {session.status for session in kit.cascades.sessions()} <= {"active"}
    assert not kit.ran


def test_what_is_not_there_is_not_found_and_wrong_inputs_are_inputs(kit: Kit) -> None:
    with pytest.raises(DefinitionNotFound, match="there is no such file") as told:
        kit.cascades.start(str(kit.folder / "odrer.yaml"))
    assert told.value.exit_code == 3
    kit.file("x")
    with pytest.raises(DefinitionNotFound) as told:
        kit.cascades.start(str(kit.folder / "odrer.yaml"))
    assert "there is: order.yaml" in told.value.hint
    with pytest.raises(InputError):
        kit.cascades.start(cascade("a"), 5)  # type: ignore[arg-type]


def test_the_session_is_named_with_the_reasons_why_it_may_be_gone(kit: Kit) -> None:
    """R114, R123: the same words wherever it is met."""
    kit.start("a")
    gone = kit.start("b")
    kit.store.delete_session(gone.id)
    for act in (lambda: gone.status, gone.cancel, gone.resume, lambda: kit.cascades.session(gone.id), gone.to_dict):
        with pytest.raises(CascadeError, match=f"^Session '{gone.id}' not found. Available sessions: 1\n") as told:
            act()
        assert "cascade ls" in told.value.hint
        assert "cascade_retention" in told.value.hint
        assert "store.sqlite" in told.value.hint


def test_the_resume_task_takes_all_that_can_go_on_and_not_the_newest_only(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R153: in pages; those that wait for a person do not stand in their way."""
    monkeypatch.setattr(resuming, "PAGE", 2)
    # Named in their order: two that start within a millisecond are told apart by their id.
    sessions = [kit.start("a", session_id=f"s{number}") for number in range(8)]
    for session in sessions:
        session.suspend()
    for session in sessions[:5]:
        kit.sql("UPDATE session_states SET status_reason = 'worker_lost' WHERE session_id = :id", id=session.id)
    answer = kit.app.tasks["celery_cascade.resume"]()
    assert set(answer["resumed"]) == {session.id for session in sessions[:5]}
    assert answer["skipped"] == {session.id: "operator" for session in sessions[6:]}  # the newest, by their page


def test_what_is_not_repeated_is_told_after_a_resume(any_kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """R161: "3 finished steps, 4 m 12 s of work", by each database's arithmetic."""
    session = any_kit.run("a", "b", {"id": "c", "task": "broken"}, "d")
    for step, end in (("a", "10:04:00.500000"), ("b", "10:00:11.500000")):
        any_kit.sql(
            f"UPDATE session_steps SET started_at = '2026-01-01 10:00:00.000000', finished_at = '2026-01-01 {end}'"
            " WHERE session_id = :id AND step = :step",
            id=session.id,
            step=step,
        )
    with caplog.at_level("INFO", "celery_cascade"):
        session.resume()
    assert f"session {session.id} goes on; not repeated: 2 finished steps, 4 m 12 s of work" in caplog.messages


def test_what_is_not_repeated_is_told_after_a_recovery(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """R161: nobody asked for it, and it is told all the same."""
    caplog.set_level("INFO", "celery_cascade")
    first, other = kit.start("x"), kit.run("a", {"id": "b", "task": "broken"})
    other.resume()
    for one in (first, other):
        (row,) = kit.store.queued_steps(one.id)
        assert kit.store.claim(row.key, attempt=row.attempt, token=one.id[:32], worker="gone", runner="1.1")
    caplog.clear()
    recovery.recover(kit.runtime, witness=False)
    assert f"session {first.id} goes on; not repeated: nothing, no step had ended" in caplog.messages
    done = f"session {other.id} goes on; not repeated: 1 finished step, 0.0 s of work"
    assert done in caplog.messages


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (59.4, "59 s"), (59.6, "1 m 0 s"), (252, "4 m 12 s"),
        (3599, "59 m 59 s"), (3600, "1 h 0 m"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_spans_are_told_in_their_two_largest_units(seconds: float, words: str) -> None:
    assert not_repeated.span(seconds) == words
