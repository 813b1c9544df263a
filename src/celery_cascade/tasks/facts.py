"""What the main process learned from a signal, on its way to the thread that writes it down.

A signal handler in the main process must not speak to the database: it would hold up acks and the broker's heartbeat.
So it puts a fact on a queue. A fact that is lost costs promptness only: the audit finds the same some seconds later.
"""

from __future__ import annotations

from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal

from celery_cascade.tasks.attempt import StepRef

#: crash: its process was lost. timeout: killed by its hard time limit. cancelled: its worker shuts down cold, or
#: somebody revoked it. dropped: its message is gone and nobody runs it.
Reason = Literal["crash", "timeout", "cancelled", "dropped"]


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
    """A queue that a handler of an operating system's signal may use, too: `SimpleQueue.put` is reentrant."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Fact | None] = SimpleQueue()

    def put(self, fact: Fact) -> None:
        """Leave a fact; the thread wakes at once."""
        self._queue.put(fact)

    def wake(self) -> None:
        """Wake the thread without telling it anything."""
        self._queue.put(None)

    def wait(self, seconds: float) -> Fact | None:
        """The next fact, or None when the time is over or `wake` was called."""
        try:
            return self._queue.get(timeout=max(0.001, seconds))
        except Empty:
            return None

    def rest(self) -> list[Fact]:
        """All that is there, without waiting."""
        found: list[Fact] = []
        while True:
            try:
                fact = self._queue.get_nowait()
            except Empty:
                return found
            if fact is not None:
                found.append(fact)
