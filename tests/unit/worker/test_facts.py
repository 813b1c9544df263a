"""What signals have told waits for the thread that writes it down, and no wait is longer than it was to be."""

from __future__ import annotations

import signal
import threading
import time

from celery_cascade.tasks.attempt import NO_ITEM, StepRef
from celery_cascade.tasks.facts import Fact, Facts


def fact(step: str) -> Fact:
    ref = StepRef(store="", session="s", step=step, item=NO_ITEM, attempt=1, task_id="")
    return Fact(ref=ref, reason="crash", text="lost")


def test_a_wait_that_is_over_before_it_begins_ends() -> None:
    """R81, found by the enumeration of crashes: a worker whose rounds had stopped for ever, its heart still beating.

    `SimpleQueue.get` did that in one of 10,000 such calls (CPython up to 3.12).
    """

    def many() -> None:
        for _ in range(50_000):
            Facts().wait(1e-6)

    thread = threading.Thread(target=many, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_facts_come_in_their_order_and_a_wake_brings_none() -> None:
    facts = Facts()
    facts.put(fact("a"))
    facts.put(fact("b"))
    found = [facts.wait(0), facts.wait(0)]

    facts.wake()
    began = time.monotonic()
    assert [one and one.ref.step for one in found] == ["a", "b"]
    assert facts.wait(60) is None
    assert facts.wait(0.0) is None
    assert time.monotonic() - began < 30


def test_a_fact_wakes_the_thread_that_waits() -> None:
    facts = Facts()
    found: list[Fact | None] = []
    thread = threading.Thread(target=lambda: found.append(facts.wait(60)))
    thread.start()
    facts.put(fact("a"))
    thread.join(30)
    assert [one and one.ref.step for one in found] == ["a"]


def test_the_rest_is_taken_without_waiting() -> None:
    facts = Facts()
    assert facts.rest() == []
    facts.put(fact("a"))
    facts.wake()
    facts.put(fact("b"))
    assert [one.ref.step for one in facts.rest()] == ["a", "b"]


def test_a_handler_of_a_signal_may_leave_a_fact_while_another_is_left() -> None:
    """Python runs it between any two instructions of the main thread, `put` itself included."""
    facts, told, handled = Facts(), 0, 0

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 1
        facts.put(fact("handled"))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        while handled < 100:
            facts.put(fact("told"))
            told += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    steps = [one.ref.step for one in facts.rest()]
    assert (steps.count("told"), steps.count("handled")) == (told, handled)
