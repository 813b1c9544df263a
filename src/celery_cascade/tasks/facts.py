"""What the main process learned from a signal, on its way to the thread that writes it down.

A signal handler in the main process must not speak to the database: it would hold up acks and the broker's heartbeat.
So it puts a fact on a queue. A fact that is lost costs promptness only: the audit finds the same some seconds later.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from celery_cascade.tasks.attempt import StepRef

#: crash: its process was lost. timeout: killed by its hard time limit. cancelled: its worker shuts down cold, or
#: somebody revoked it. dropped: its message is gone and nobody runs it. unknown: dropped for want of its task.
Reason = Literal["crash", "timeout", "cancelled", "dropped", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What happened to an attempt.

    Args:
        ref: which attempt.
        reason: what became of it.
        text: for people.
    """

    ref: StepRef
    reason: Reason
    text: str


class Facts:
    """A queue that a handler of an operating system's signal may use, too: nothing in `put` can be found half done.

    Not `queue.SimpleQueue`: up to Python 3.12 its `get` waits for ever, whatever its timeout, if that is over before
    the wait begins (measured: 1 call in 10,000 with a timeout of a microsecond, on 3.11 and 3.12). A busy machine
    takes a thread away for a millisecond often enough; its worker then never looked for anything again.
    """

    def __init__(self) -> None:
        self._facts: deque[Fact] = deque()
        self._bell = Lock()  #: released = something has happened since the thread waited last
        self._bell.acquire()

    def put(self, fact: Fact) -> None:
        """Leave a fact; the thread wakes at once."""
        self._facts.append(fact)
        self.wake()

    def wake(self) -> None:
        """Wake the thread without telling it anything."""
        with suppress(RuntimeError):  # it rings already
            self._bell.release()

    def wait(self, seconds: float) -> Fact | None:
        """The next fact, or None when the time is over or the thread was woken for nothing."""
        if not self._facts:
            self._bell.acquire(timeout=max(0.0, seconds))
        return self._next()

    def rest(self) -> list[Fact]:
        """All that is there, without waiting."""
        return list(iter(self._next, None))

    def _next(self) -> Fact | None:
        with suppress(IndexError):
            return self._facts.popleft()
        return None
