"""What a forked child would inherit from its parent's threads, and how it does not."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from celery_cascade import forks
from celery_cascade.forks import Gate
from celery_cascade.lazy import lazy
from celery_cascade.tasks.forking import Forks

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
HUNG = -signal.SIGKILL


def child_ends(work: Callable[[], Any], seconds: float = 5.0) -> int:
    """The exit code of a forked child that does `work`; HUNG if it has to be killed."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return HUNG


class Busy:
    """A thread that is inside `work` until it is let go."""

    def __init__(self, work: Callable[[threading.Event, threading.Event], None]) -> None:
        self.inside, self.go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=work, args=(self.inside, self.go), daemon=True)

    def __enter__(self) -> Busy:
        self._thread.start()
        assert self.inside.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._thread.join(5)


def slow(property_: Callable[..., Any]) -> tuple[Any, Busy]:
    """An object whose attribute takes a thread of this process a while, and that thread."""
    parent = os.getpid()

    class Slow:
        def answer(self, inside: threading.Event, go: threading.Event) -> None:
            self.events = (inside, go)
            _ = self.value

        @property_
        def value(self) -> int:
            if os.getpid() == parent:
                self.events[0].set()
                self.events[1].wait(10)
            return 7

    found = Slow()
    return found, Busy(found.answer)


def test_a_child_can_ask_for_what_a_thread_of_its_parent_was_computing():
    found, busy = slow(lazy)
    with busy:
        assert child_ends(lambda: found.value) == 0
    assert found.value == 7


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="functools.cached_property has no lock from Python 3.12 on")
def test_the_trap_is_real():
    """If this fails, Python has become harmless and lazy.py may go."""
    found, busy = slow(functools.cached_property)  # noqa: TID251
    with busy:
        assert child_ends(lambda: found.value, seconds=0.5) == HUNG


def test_a_fork_waits_for_sections_and_sections_wait_for_the_fork(monkeypatch):
    monkeypatch.setattr(forks, "COURTESY", 60)
    gate, order = Gate(), []

    def work(inside: threading.Event, go: threading.Event) -> None:
        with gate:
            inside.set()
            go.wait(5)
            with gate:  # may be nested while the fork waits
                order.append("done")

    with Busy(work) as busy:
        forker = threading.Thread(target=lambda: (gate.before(), order.append("forked"), gate.after_in_parent()))
        forker.start()
        while not gate._waiting and forker.is_alive():
            time.sleep(0.001)
        late = threading.Thread(target=lambda: (gate.__enter__(), order.append("late"), gate.__exit__()))
        late.start()
        late.join(0.05)
        assert order == []
        busy.go.set()
        forker.join(5)
        late.join(5)
    assert order == ["done", "forked", "late"]


def test_a_section_that_does_not_end_holds_a_fork_up_for_a_while_only(monkeypatch, caplog):
    monkeypatch.setattr(forks, "PATIENCE", 0.05)
    gate, closed, renewed = Gate(), [], []
    gate.on_fork(before=lambda: closed.append(1), in_child=lambda: renewed.append(1))

    def work(inside: threading.Event, go: threading.Event) -> None:
        with gate:
            inside.set()
            go.wait(5)

    def child() -> None:
        assert renewed == [1]
        with gate:
            pass

    with Busy(work):
        assert child_ends(child) == 0
    assert closed == []
    assert "has not answered" in caplog.text
    assert child_ends(child) == 0
    assert closed == [1]


def stuck(gate: Gate) -> Busy:
    """A thread whose section does not end."""

    def work(inside: threading.Event, go: threading.Event) -> None:
        with gate:
            inside.set()
            go.wait(10)

    return Busy(work)


def test_only_the_first_fork_waits_for_a_section_that_does_not_end_and_a_heartbeat_does_not_wait_so_long(monkeypatch):
    """Several children that are replaced one after the other must not make their worker look dead."""
    monkeypatch.setattr(forks, "PATIENCE", 0.4)
    monkeypatch.setattr(forks, "COURTESY", 0.1)
    gate, beats = Gate(), []

    def beat() -> None:
        began = time.monotonic()
        with gate:
            beats.append(time.monotonic() - began)

    with stuck(gate):
        began = time.monotonic()
        forker = threading.Thread(target=lambda: [(gate.before(), gate.after_in_parent()) for _ in range(10)])
        forker.start()
        while not gate._waiting and forker.is_alive():
            time.sleep(0.001)
        beater = threading.Thread(target=beat)
        beater.start()
        beater.join(5)
        forker.join(10)
        assert time.monotonic() - began < 10 * 0.4 / 2
    assert beats[0] < 0.3
    assert [gate._inside, gate._waiting, gate._forking, gate._given_up] == [{}, set(), set(), set()]


@pytest.mark.parametrize("moment", ["while it waits", "when it gave up", "after the fork"])
def test_whoever_forks_may_enter_a_section_meanwhile(monkeypatch, moment):
    """A log handler that sends what is logged, a signal handler, somebody else's callback at forks."""
    monkeypatch.setattr(forks, "PATIENCE", 0.1)
    gate, entered = Gate(), []

    def enter(*_: object) -> None:
        with gate:
            entered.append(1)

    monkeypatch.setattr(forks.logger, "warning", enter if moment == "when it gave up" else lambda *_: None)
    if moment == "while it waits":
        monkeypatch.setattr(forks.time, "sleep", enter)

    def fork() -> None:
        gate.before()
        if moment == "after the fork":
            enter()
        gate.after_in_parent()

    with stuck(gate):
        forker = threading.Thread(target=fork, daemon=True)
        forker.start()
        forker.join(5)
        assert not forker.is_alive()
    assert entered


def test_a_signal_handler_that_raises_leaves_nothing_that_others_wait_for():
    """Celery's soft time limit is one; it may strike anywhere."""
    gate, armed, struck = Gate(), False, 0

    def strike(*_: object) -> None:
        if armed:
            raise InterruptedError

    before = signal.signal(signal.SIGALRM, strike)
    for number in range(3000):
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 40))
            for _ in range(60):
                with gate:
                    pass
            armed = False
        except InterruptedError:
            armed = False
            struck += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert struck > 100
    other = threading.Thread(target=lambda: (gate.__enter__(), gate.__exit__()), daemon=True)
    other.start()
    other.join(1)
    assert not other.is_alive()


def test_a_process_that_forks_inside_a_section_of_its_own_goes_on_in_both():
    gate = Gate()

    def child() -> None:
        gate.__exit__()
        with gate:
            pass

    with gate:
        assert child_ends(child) == 0
    assert gate._inside == {}


def test_only_a_worker_that_forks_keeps_its_sends_apart(sqlite_url):
    """A fork of any other program is not held up by us."""
    from celery_cascade.persistence.database import Database

    gate = Gate()
    found, database = Forks(gate), Database(sqlite_url)

    def free() -> None:
        with found.apart():
            assert gate._inside == {}

    with found.apart():
        assert gate._inside == {}
    found.protect(database)
    with found.apart():
        assert len(gate._inside) == 1
    assert child_ends(free) == 0  # a child has no threads of ours
    found.release(database)
    database.dispose()
