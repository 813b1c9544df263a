"""Running a session in this very process (`--local`): no worker, no broker, just as durable."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any, NoReturn

import click

from celery_cascade.cli.ending import conclude
from celery_cascade.cli.exits import INTERRUPTED
from celery_cascade.cli.follow import Follower, followed
from celery_cascade.cli.problems import as_called
from celery_cascade.cli.words import say
from celery_cascade.errors import CascadeError, UsageError
from celery_cascade.sessions.session import Session
from celery_cascade.states import SessionStatus
from celery_cascade.tasks.driver import drive
from celery_cascade.tasks.local_worker import local_worker
from celery_cascade.tasks.publish import driving
from celery_cascade.tasks.runtime import Runtime

#: What asks a run in this process to stop, and how people call it.
_STOPPING = {int(signal.SIGINT): "Ctrl+C", int(signal.SIGTERM): "SIGTERM"}


def check_here(local: bool, watch: bool, timeout: timedelta | None) -> None:
    """UsageError for `--local` with what is about a session that runs elsewhere."""
    if local and (not watch or timeout is not None):
        raise UsageError("--local runs here until the end: it cannot be had together with --detach or --timeout")


def is_here(runtime: Runtime, local: bool) -> bool:
    """Whether this process is to run it: asked to, or nobody else would (`task_always_eager`)."""
    return local or bool(runtime.app.conf.task_always_eager)


@contextmanager
def as_its_worker(runtime: Runtime, session_id: str) -> Iterator[None]:
    """Be its worker from the first row on: if this process dies, others know whose the steps were."""
    with driving(session_id), local_worker(runtime):
        yield


def run_here(runtime: Runtime, session_id: str, *, since: int = 0) -> NoReturn:
    """Run what is queued of a session, say what happens, print its output and exit.

    The first Ctrl+C or SIGTERM suspends it after the step that runs (D8); the second one stops at once.
    """
    session = Session(runtime, session_id)
    stop = StopAfterStep(session)
    try:
        with stop, followed(Follower(runtime, session_id, since=since)):
            status = drive(runtime, session_id)
    except KeyboardInterrupt:
        _stopped(session, "Stopped in the middle of a step, which runs again when the session goes on.")
    if stop.asked and status is SessionStatus.SUSPENDED:
        _stopped(session, f"Session {session_id} is suspended after the step that ran.")
    conclude(session, status)


def _stopped(session: Session, what: str) -> NoReturn:
    say(what)
    say(as_called(f"Go on here with: cascade resume {session.id} --local"))
    say(as_called(f"or on a worker with: cascade resume {session.id}"))
    raise click.exceptions.Exit(INTERRUPTED)


class StopAfterStep:
    """Inside, the first Ctrl+C or SIGTERM asks the session to suspend; the second one is a KeyboardInterrupt."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._before: dict[int, Any] = {}
        self.asked = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._first) for number in _STOPPING}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _first(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        for one in _STOPPING:
            signal.signal(one, signal.default_int_handler)
        # Not here: the thread that was interrupted may hold the database.
        threading.Thread(target=self._suspend, args=(_STOPPING[number],), name="cascade-suspend", daemon=True).start()

    def _suspend(self, word: str) -> None:
        say(f"Suspending after the step that runs; {word} again stops at once.")
        try:
            self._session.suspend(reason=word)
        except CascadeError as error:
            say(error.message)
