"""Following a session: one line a change, until it has ended or waits for somebody."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.living import Lack, lack_of, workers
from celery_cascade.cli.words import local, painted, printable, say, took
from celery_cascade.errors import CascadeError, SessionTimeout
from celery_cascade.persistence.fork import KEPT
from celery_cascade.persistence.rows import NO_ITEM
from celery_cascade.sessions.hiding import hiding_of
from celery_cascade.sessions.view import plain
from celery_cascade.states import SessionStatus, waits_its_turn
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.runtime import Runtime

_FIRST_LOOK, _LONGEST_LOOK = 0.05, 0.5
#: Seconds between two looks for living workers; the first one is at once (D8: said within 3 seconds).
_WORKERS_EVERY = 1.0
_WORDS = {"retry": "asked to be retried", "requeue": "asked to be queued again", "timeout": "took too long"}


class Follower:
    """Says what happens in one session.

    Args:
        since: the version that the caller knows already; what happened before it is not told.
        caller: how to start a worker, for when there is none; None = the session is run by this process.
        tell: where lines go.
    """

    def __init__(
        self,
        runtime: Runtime,
        session_id: str,
        *,
        since: int = 0,
        caller: Caller | None = None,
        tell: Callable[[str], None] = say,
    ) -> None:
        self._runtime = runtime
        self._id = session_id
        self._version = self._since = since
        self._caller = caller
        self._tell = tell
        self._seen: dict[tuple[str, int], tuple[str, int]] = {}
        self._setbacks: set[tuple[str, int, int]] = set()
        self._next_count = 0.0
        self._said_alone = False
        self._queued = self._said_queued = False

    def follow(self, timeout: float | None = None) -> SessionStatus:
        """Look on until it has ended or is suspended.

        Raises:
            SessionTimeout: it was not done in time; it goes on.
        """
        began, look = time.monotonic(), _FIRST_LOOK
        patience = self._runtime.config.database_patience
        while True:
            status = patiently(self.look, seconds=patience, what=f"watching session {self._id}")
            if status is not SessionStatus.ACTIVE:
                return status
            if timeout is not None and time.monotonic() - began >= timeout:
                raise SessionTimeout(
                    f"session {self._id} is not done after {timeout:g} s; it goes on",
                    hint=f"Watch it with: cascade watch {self._id}",
                )
            if not self._queued:
                self._look_for_workers()
            time.sleep(look)
            look = min(look * 1.2, _LONGEST_LOOK)

    def look(self) -> SessionStatus:
        """Say what changed since the last look; returns the session's status."""
        head = self._runtime.store.head(self._id)
        self._queued = waits_its_turn(head["status"], head["status_reason"], head["started_at"])
        if self._queued:
            self._say_queued()
            return SessionStatus.ACTIVE  # it goes on by itself
        for row in sorted(self._runtime.store.step_changes(self._id, self._version), key=_moment):
            self._note(row)
        self._version = head["version"]
        return SessionStatus(head["status"])

    def _say_queued(self) -> None:
        """Say once for whom it waits."""
        if not self._said_queued:
            self._said_queued = True
            row = self._runtime.store.session(self._id)
            thread = printable(row["thread_id"] or "-")
            self._tell(f"It waits for its turn in thread {thread}: for the end of session {row['continues']}")

    def _note(self, row: Mapping[str, Any]) -> None:
        key, state = (row["step"], row["item"]), (row["status"], row["attempt"])
        if self._seen.get(key) == state:
            return
        self._seen[key] = state
        if row["reason"] == KEPT:
            return  # it ended in the session that this one was forked from
        if row["attempt"] > 1 or row["status"] == "failed":
            self._note_setbacks(key)
        name = _name(*key)
        match row["status"]:
            case "running":
                self._said_alone = False  # that a worker is there, this line says
                where = f" on {row['nodename']}" if row["nodename"] else ""
                self._line(row["started_at"], f"{name} {painted('running')}{where} (attempt {row['attempt']})")
            case "succeeded":
                span = took((row["finished_at"] - row["started_at"]).total_seconds())
                self._line(row["finished_at"], f"{name} {painted('succeeded')} (attempt {row['attempt']}, {span})")
            case "skipped" | "cancelled" as status:
                why = f" ({row['reason']})" if row["reason"] else ""
                self._line(row["finished_at"], f"{name} {painted(status)}{why}")
            case _:  # queued and waiting steps say nothing; failed ones are told as attempts
                pass

    def _note_setbacks(self, key: tuple[str, int]) -> None:
        """The attempts of a step that did not succeed, each told once."""
        hiding = None
        for row in self._runtime.store.attempts(self._id):
            this = (row["step"], row["item"], row["attempt"])
            if this[:2] != key or this in self._setbacks or row["version"] <= self._since:
                continue
            self._setbacks.add(this)
            hiding = hiding or hiding_of(self._runtime, self._id)  # reads all that the session and its forebears bear
            self._line(row["finished_at"], f"{_name(*key)} {hiding.text(setback(row))}")

    def _line(self, moment: Any, text: str) -> None:
        self._tell(f"{local(moment, date=False)} {text}")

    def _look_for_workers(self) -> None:
        """Say once that nobody is there to run it, with both ways out, and once that somebody is."""
        if self._caller is None or time.monotonic() < self._next_count:
            return
        self._next_count = time.monotonic() + _WORKERS_EVERY
        found = workers(self._runtime)
        lack = lack_of(self._runtime, self._runtime.facts(self._id).plan, found)
        if lack is None:
            if self._said_alone:
                self._tell(f"A worker is there: {found[0].nodename}")
            self._said_alone = False
        elif not self._said_alone:
            self._said_alone = True
            for line in no_worker(self._caller, self._id, lack):
                self._tell(line)


def no_worker(caller: Caller, session_id: str, lack: Lack, *, several: bool = False) -> list[str]:
    """What to say when nobody can run a session, or it and others: why, what it does meanwhile, and both ways out."""
    if lack.task is None:
        stored = "the sessions are stored and wait" if several else "the session is stored and waits"
        why = f"There is no living worker; {stored} for one. Start a worker:"
    elif lack.queue is None:
        why = f"No living worker knows the task {printable(lack.task)}; it waits. Start one that does:"
    else:
        who = f"No living worker that knows the task {printable(lack.task)}"
        why = f"{who} consumes its queue {printable(lack.queue)}; it waits. Start one that does:"
    queues = f" -Q {shlex.quote(','.join(lack.consume))}" if lack.consume else ""
    return [
        why,
        f"    {caller.worker_command}{queues}",
        f"or run {'one of them' if several else 'it'} in this terminal, without a worker:",
        f"    {caller.words} resume {session_id} --local",
    ]


def setback(row: Mapping[str, Any]) -> str:
    """An attempt that did not succeed, in words."""
    error = plain(row["error"]) or {}
    what = f"{error.get('type', '')}: {error.get('message', '')}".strip(": ")
    said = printable(what.splitlines()[0]) if what else "no error was recorded"
    if row["kind"] == "crash":
        return f"lost its worker in attempt {row['attempt']}: {said}"
    word = _WORDS.get(row["kind"], painted("failed"))
    return f"{word} in attempt {row['attempt']}: {said}"


def _moment(row: Mapping[str, Any]) -> tuple[bool, Any]:
    """When a step came to where it is; what has not begun comes last, and says nothing."""
    moment = row["finished_at"] or (row["started_at"] if row["status"] == "running" else None)
    return moment is None, moment or 0


def _name(step: str, item: int) -> str:
    return step if item == NO_ITEM else f"{step}[{item}]"


@contextmanager
def followed(follower: Follower) -> Iterator[None]:
    """Follow beside what runs inside: for a session that this very process runs."""
    done = threading.Event()

    def look_on() -> None:
        while not done.wait(_FIRST_LOOK * 2):
            try:
                follower.look()
            except CascadeError:  # whoever runs the session meets it too, and tells it
                return

    beside = threading.Thread(target=look_on, name="cascade-follow", daemon=True)
    beside.start()
    try:
        yield
    finally:
        done.set()
        beside.join(timeout=5)
    follower.look()
