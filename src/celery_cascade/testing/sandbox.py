"""What a process of the sandbox does: cut the app off from its servers, then start the session or go on with it.

Every function here runs in a forked child, whose changes to the app and the environment nobody else sees.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery.signals import before_task_publish

from celery_cascade.config import HOME_VARIABLE, URL_VARIABLE
from celery_cascade.crash_points import CrashPoint, arm
from celery_cascade.errors import CascadeError, SessionNotFound
from celery_cascade.persistence import migrate
from celery_cascade.persistence.database import Database
from celery_cascade.sessions import current
from celery_cascade.sessions.session import Session
from celery_cascade.sessions.starting import StartOptions, Target, start
from celery_cascade.states import FINAL_SESSION, SessionStatus
from celery_cascade.tasks.driver import drive
from celery_cascade.tasks.local_worker import local_worker
from celery_cascade.tasks.publish import driving
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.testing import journal
from celery_cascade.testing.bodies import Lines, Watch
from celery_cascade.testing.crashes import Crash
from celery_cascade.testing.journal import Journal, Key
from celery_cascade.testing.points import crash_now

#: The same in every run, so that idempotency keys are.
SESSION = "crashtest"
ANSWER = "answer.json"
LOG = "printed.txt"
JOURNAL = "journal.jsonl"

#: Whatever the app's configuration says, Celery looks here first.
_NO_SERVERS = {
    "CELERY_BROKER_URL": "memory://",
    "CELERY_BROKER_READ_URL": "memory://",
    "CELERY_BROKER_WRITE_URL": "memory://",
    "CELERY_RESULT_BACKEND": "disabled://",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is run again and again.

    Attributes:
        target, inputs: as for `Cascades.start`.
        effects: tells what the steps did outside, as JSON.
        reset: brings the outside back to what it was, before each run.
    """

    runtime: Runtime
    target: Target
    inputs: Mapping[str, Any] | None
    effects: Callable[[], Any] | None = None
    reset: Callable[[], Any] | None = None


def make_store(folder: Path) -> None:
    """Make an empty store, which every run gets a copy of.

    Here and not in a child: what SQLAlchemy prepares on first use, every child finds prepared.
    """
    database = Database(folder / "store.sqlite")
    try:
        migrate.upgrade(database, by_itself=True)
        migrate.store_id(database)
    finally:
        database.dispose()


def copy_store(template: Path, folder: Path) -> None:
    """Give a run its store."""
    folder.mkdir()
    for file in template.glob("store.sqlite*"):
        shutil.copy(file, folder)


def begin(experiment: Experiment, folder: Path, *, crash: Crash | None, lines: bool = False) -> None:
    """The process that starts the session; it answers if it is not ended before.

    Args:
        folder: of the run; holds its store already.
        crash: where to end; None = nowhere.
        lines: whether to count the lines that bodies run.
    """
    _run(experiment, folder, Visitor(experiment, Journal(folder / JOURNAL), crash, lines=lines), reset=True)


def go_on(experiment: Experiment, folder: Path) -> None:
    """The process that finds the session as the first one has left it."""
    _run(experiment, folder, Visitor(experiment, Journal(folder / JOURNAL), None), reset=False)


def _run(experiment: Experiment, folder: Path, visitor: Visitor, *, reset: bool) -> None:
    runtime = experiment.runtime
    _enter(runtime, folder)
    visitor.look_on()
    answer: dict[str, Any] = {}
    try:
        if reset and experiment.reset is not None:
            _theirs(experiment.reset)
        answer |= _to_its_end(experiment)
        if experiment.effects is not None:
            answer["effects"] = json.loads(json.dumps(_theirs(experiment.effects)))
    except Unusable as error:
        answer["unusable"] = str(error)
    except CascadeError as error:
        answer["error"] = error.message
    except (TypeError, ValueError) as error:  # what is no JSON
        answer["unusable"] = f"what the effects function returns is no JSON: {error}"
    (folder / ANSWER).write_text(json.dumps(answer), encoding="utf-8")


def _to_its_end(experiment: Experiment) -> dict[str, Any]:
    """Run the session as `run --local` does, and tell what became of it."""
    runtime = experiment.runtime
    with driving(SESSION), local_worker(runtime):
        if not _is_there(runtime):
            options = StartOptions(session_id=SESSION, trigger="crashtest")
            start(runtime, experiment.target, experiment.inputs, options)
        if SessionStatus(runtime.store.head(SESSION)["status"]) not in FINAL_SESSION:
            drive(runtime, SESSION)
    arm(None)
    whole = Session(runtime, SESSION).to_dict(redact=False)
    return {key: whole[key] for key in ("status", "reason", "output", "error")}


def _is_there(runtime: Runtime) -> bool:
    try:
        runtime.store.head(SESSION)
    except SessionNotFound:
        return False
    return True


class Unusable(Exception):
    """A function of the user's, for effects or the reset, has raised."""


def _theirs(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        traceback.print_exc()
        name = getattr(function, "__qualname__", repr(function))
        raise Unusable(f"{name}() raised {type(error).__name__}: {error}") from error


def _enter(runtime: Runtime, folder: Path) -> None:
    """From here on there is no server: the store is in the folder, and what is sent goes nowhere."""
    for variable in (URL_VARIABLE, HOME_VARIABLE):
        os.environ.pop(variable, None)
    os.environ.update(_NO_SERVERS)
    app = runtime.app
    app.conf.broker_transport = None
    app._after_fork()  # its pools of connections
    app._local, app._backend_cache = threading.local(), None
    runtime.move(folder)


class Visitor:
    """Writes the journal of a process, and ends it where it is to end."""

    def __init__(self, experiment: Experiment, to: Journal, crash: Crash | None, *, lines: bool = False) -> None:
        self._runtime = experiment.runtime
        self._journal = to
        self._crash = crash
        self._seen: Counter[tuple[str, str | None, int]] = Counter()
        self._lines = Lines() if lines else None
        self._watches: dict[Key, Watch] = {}

    def look_on(self) -> None:
        """From here on, until the process ends."""
        arm(self._visit)
        before_task_publish.connect(self._sent, weak=False)
        _tell_keys(self._journal)

    def _visit(self, point: CrashPoint, of: Any) -> None:
        session = getattr(of, "session", None) or getattr(of, "session_id", SESSION)
        if session != SESSION:  # one that a body has started
            return
        step, item = getattr(of, "step", None), getattr(of, "item", -1)
        if point is CrashPoint.BODY_ENDED:
            self._end_watch(step, item)
        self._journal.note(point, step, item)
        self._seen[point, step, item] += 1
        crash, visit = self._crash, self._seen[point, step, item]
        if crash is not None and crash.is_at(point, step, item, visit):
            self._begin_watch(step, item, crash.watch or crash_now())
        elif point is CrashPoint.BODY and self._lines is not None and visit == 1:
            self._begin_watch(step, item, self._lines)

    def _begin_watch(self, step: str | None, item: int, watch: Watch) -> None:
        task = self._runtime.tasks[self._runtime.facts(SESSION).plan.steps[step or ""].task]
        self._watches[step or "", item] = watch
        watch.begin(getattr(task, "__wrapped__", task.run))

    def _end_watch(self, step: str | None, item: int) -> None:
        watch = self._watches.pop((step or "", item), None)
        if watch is not None:
            watch.end()
        if isinstance(watch, Lines):
            self._journal.note(journal.LINES, step, item, str(watch.count))

    def _sent(self, sender: Any = None, **_: Any) -> None:
        self._journal.note(journal.SENT, detail=str(sender))


def _tell_keys(to: Journal) -> None:
    """Note whose body asks for its idempotency key."""

    class Told(current.CurrentSession):
        def __getattribute__(self, name: str) -> Any:
            if name == "idempotency_key":
                to.note(journal.KEY_ASKED, self.step, -1 if self.item is None else self.item)
            return super().__getattribute__(name)

    current.CurrentSession = Told  # type: ignore[misc]  # in this child only
