from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from celery_cascade.config import CascadeConfig
from celery_cascade.errors import StoreUnavailable
from celery_cascade.tasks import overtime, recovery, rounds, unknown_task
from celery_cascade.tasks.attempt import StepRef
from celery_cascade.tasks.facts import Fact, Facts
from celery_cascade.tasks.rounds import Rounds

REF = StepRef(store="s", session="s1", step="a", item=-1, attempt=1, task_id="t")


class FakeRuntime:
    def __init__(self) -> None:
        self.config = CascadeConfig()
        self.swept: list[tuple[str, float]] = []
        self.granted = True
        self.store = SimpleNamespace(
            begin_sweep=self.begin_sweep,
            open_counts=lambda: {"active": 3, "suspended": 1, "completed": 9},
            finished_work=lambda ids: dict.fromkeys(ids, (3, 252.0)),
            database=SimpleNamespace(shown="sqlite:///x"),
        )
        self.app = SimpleNamespace(tasks={"shop.a": None})
        self.runner_id = "1.2"

    def begin_sweep(self, name: str, interval: float) -> bool:
        self.swept.append((name, interval))
        return self.granted


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is called of recovery, in order."""
    calls: list[Any] = []

    def send_due(_runtime: Any, of: set[str] | None = None) -> int:
        calls.append("send_due")
        (set() if of is None else of).update(("s1", "s2"))
        return 2

    def note(name: str, result: Any = 0, where: Any = recovery) -> None:
        def function(_runtime: Any, *args: Any, **options: Any) -> Any:
            calls.append((name, *args[:1], *options.values()) if args or options else name)
            return result

        monkeypatch.setattr(where, name, function)

    monkeypatch.setattr(recovery, "send_due", send_due)
    note("recover", recovery.RecoveryReport(released=4, resumed={"s1", "s3"}))
    note("expire", where=overtime)
    note("attempt_lost", None)
    monkeypatch.setattr(unknown_task, "wake", lambda _runtime, tasks: calls.append(("wake", *tasks)))
    monkeypatch.setattr(unknown_task, "delay", lambda _runtime, ref, text: calls.append(("delay", ref, text)))
    monkeypatch.setattr(rounds.embedded, "prune_spent", lambda app: calls.append("prune_spent"))
    monkeypatch.setattr(rounds.migrate, "current", lambda database: "0003")
    return calls


def make(runtime: FakeRuntime, *, judge: bool = False) -> tuple[Rounds, Facts]:
    facts = Facts()
    return Rounds(runtime, SimpleNamespace(may_judge=judge), facts), facts  # type: ignore[arg-type]


def test_the_first_round_looks_at_once_and_says_what_it_found(called, caplog):
    made, _ = make(FakeRuntime())
    with caplog.at_level(logging.INFO, "celery_cascade"):
        made.first()
    assert called == [("recover", False), ("wake", "shop.a"), "send_due"]
    assert caplog.messages == [
        "session s2 goes on; not repeated: 3 finished steps, 4 m 12 s of work",  # of s1 and s3, recovery tells
        "[cascade] sqlite:///x schema 0003, 4 open sessions, 3 resumed",
    ]


def test_a_sweep_that_another_worker_does_is_left_to_it(called):
    runtime = FakeRuntime()
    runtime.granted = False
    made, _ = make(runtime)
    made.send_due()
    made.recover()
    made.expire()
    assert called == []


@pytest.mark.parametrize(("judge", "sweep"), [(True, "orphans"), (False, "orphans_certain")])
def test_witnesses_and_others_share_a_sweep_each(called, judge, sweep):
    runtime = FakeRuntime()
    make(runtime, judge=judge)[0].recover()
    assert called == [("recover", judge)]
    assert runtime.swept == [(sweep, pytest.approx(rounds.EARLY * runtime.config.orphan_interval))]


def test_what_a_signal_told_is_written_down(called):
    made, _ = make(FakeRuntime())
    made.note(Fact(ref=REF, reason="timeout", text="killed"))
    assert called == [("attempt_lost", REF)]


def test_a_message_that_was_dropped_for_want_of_its_task_is_delayed_here_and_not_in_the_handler(called):
    made, _ = make(FakeRuntime())
    made.note(Fact(ref=REF, reason="unknown", text="who?"))
    assert called == [("delay", REF, "who?")]


def test_a_message_that_is_gone_is_told_with_the_way_out(called, caplog):
    made, _ = make(FakeRuntime())
    made.note(Fact(ref=REF, reason="dropped", text="its task id was revoked"))
    assert called == []
    assert "session s1" in caplog.text
    assert "cascade cancel s1" in caplog.text


def test_a_duty_that_fails_is_told_once_and_the_others_go_on(called, monkeypatch, caplog):
    made, _ = make(FakeRuntime())

    def away(_runtime: Any) -> int:
        raise StoreUnavailable("the store does not answer")

    monkeypatch.setattr(recovery, "send_due", away)
    for _ in range(3):
        made._try("sending what is due", made.send_due)
        made._try("expiring", made.expire)
    assert called == ["expire", "prune_spent"] * 3
    assert caplog.text.count("does not answer") == 1


def test_a_fact_wakes_the_thread_and_stop_ends_it(called):
    runtime = FakeRuntime()
    made, facts = make(runtime)
    made.start()
    facts.put(Fact(ref=REF, reason="crash", text="lost"))
    while ("attempt_lost", REF) not in called:
        assert made._thread.is_alive()
    made.stop()
    assert not made._thread.is_alive()


def test_a_first_look_that_fails_is_done_again_and_told_once(called, monkeypatch, caplog):
    """R158: the banner comes once, as soon as the store answers."""
    runtime = FakeRuntime()
    runtime.config = CascadeConfig(timer_interval=0.01)
    tries: list[str] = []

    def recover(_runtime: Any, *, witness: bool) -> recovery.RecoveryReport:
        tries.append("recover")
        if len(tries) == 1:
            raise StoreUnavailable("the store does not answer")
        return recovery.RecoveryReport()

    monkeypatch.setattr(recovery, "recover", recover)
    made, _ = make(runtime)
    with caplog.at_level(logging.INFO, "celery_cascade"):
        made.start()
        while called.count("send_due") < 3:
            assert made._thread.is_alive()
        made.stop()
    assert caplog.text.count("open sessions") == 1
