"""What a worker tells of sessions: notes on tracebacks in its log, and our own signals from its processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from celery_cascade import events
from celery_cascade.persistence.store import Store
from support.cases import QUICK, until
from support.cluster import Project, Stack, wait_for

pytestmark = pytest.mark.integration

FAILING = """

import threading

@app.task
def own_notes():
    error = ValueError("with a note of its own")
    error.add_note("mine")
    raise error

@app.task
def group():
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])

class Unpicklable(Exception):
    def __init__(self, first, second):
        super().__init__(first)
        self.lock = threading.Lock()

@app.task
def unpicklable():
    raise Unpicklable(1, 2)

class Stubborn(Exception):
    def add_note(self, note):
        raise TypeError("no notes")

@app.task
def stubborn():
    raise Stubborn("takes none")
"""
KINDS = ("own_notes", "group", "unpicklable", "stubborn")


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    made = Project(tmp_path / "project", Stack("embedded"), cascade_definitions=["*.yaml"], **QUICK)
    yield made
    made.close()


def add(shop: Project, code: str) -> None:
    with (shop.folder / "proj.py").open("a") as file:
        file.write(code)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_tracebacks_end_with_session_step_attempt_and_the_command_that_goes_on(shop: Project, pool: str) -> None:
    """R161: in the worker's log and in what is stored, whatever kind of exception it is."""
    add(shop, FAILING)
    worker = shop.worker("-P", pool, "-c", "2")
    files = {
        kind: shop.file(f"cascade: {kind}\nsteps: [{{id: a, task: proj.{kind}}}]\n", f"{kind}.yaml") for kind in KINDS
    }
    starts = [f"cascades.start({str(path)!r}, session_id={kind!r})" for kind, path in files.items()]
    shop.python("; ".join(["from proj import cascades", *starts]))
    notes = {
        kind: f"[cascade] session {kind}, step a, attempt 1; resume with: celery -A proj cascade resume {kind}"
        for kind in KINDS
    }
    for kind in KINDS:
        until(shop, kind, "failed")
        (attempt,) = Store(shop.database).attempts(kind)
        assert attempt["traceback"].splitlines()[-1] == notes[kind]
        assert "Traceback (most recent call last)" in attempt["traceback"]
    for kind in KINDS:
        wait_for(lambda kind=kind: notes[kind] in worker.logs(), f"the note of {kind} in the log", 10)
    assert f"mine\n{notes['own_notes']}\n" in worker.logs()
    assert "proj.Stubborn: takes none" in worker.logs()


LISTENING = '''

from celery_cascade import events
from celery_cascade.tasks import recovery
from sqlalchemy import text
import json

def listen(signal):
    def note(sender, signal, **said):
        seen = cascades.session(said["session_id"]).status if "session_id" in said else None
        with open(HERE / "events.log", "a") as file:
            file.write(json.dumps([signal.name, os.getpid(), said, seen]) + "\\n")
    signal.connect(note, weak=False)

for one in events.ALL:
    listen(one)

@app.task
def suspends():
    cascades.session(current_session().id).suspend()

@app.task
def late():
    """Another worker takes the step while it runs; it is this process that plays the other one."""
    if current_session().attempt == 1:
        store, mine = cascades.runtime.store, current_session().id
        forget = text("UPDATE session_steps SET worker = 'gone' WHERE session_id = :id AND status = 'running'")
        store.database.transaction(lambda connection: connection.execute(forget, {"id": mine}))
        recovery.recover(cascades.runtime, witness=False)
'''


def test_every_signal_of_ours_is_sent_by_a_prefork_worker(shop: Project) -> None:
    """R161: each of the nine from the pool's children, after the commit that it tells of."""
    add(shop, LISTENING)
    for name in ("late", "suspends", "fail"):
        step = f"{{id: a, task: proj.{name}}}" if name != "fail" else "{id: a, task: proj.fail, with: [9]}"
        shop.file(f"cascade: {name}\nsteps: [{step}, {{id: b, task: proj.work}}]\n", f"{name}.yaml")
    worker = shop.worker("-P", "prefork", "-c", "2")
    start = [
        f"app.send_task('celery_cascade.start', [{name!r}], {{'session_id': {name!r}}})"
        for name in ("late", "suspends", "fail")
    ]
    shop.python("; ".join(["from proj import app", *start]))
    heard = Heard(shop)
    wait_for(lambda: heard.of("late", "session_completed"), "the session that lost a claim to end")
    wait_for(lambda: heard.of("fail", "session_failed"), "a session to fail")
    wait_for(lambda: heard.of("suspends", "session_suspended"), "a session to suspend itself")
    shop.python(
        "from proj import app; app.send_task('celery_cascade.resume', ['suspends'], {'force': True});"
        "app.send_task('celery_cascade.prune')"
    )
    wait_for(lambda: heard.of("suspends", "session_completed"), "the resumed session to end")
    wait_for(lambda: heard.named("sessions_pruned"), "the prune to end")
    assert {entry[0] for entry in heard.all()} == {signal.name for signal in events.ALL}
    children = set(worker.container.children())
    # A step without an owner may be taken back by the main process's own rounds, as well as by "late" itself.
    rescued = {entry[1] for entry in heard.of("late", "session_resumed")} - children
    assert len(rescued) <= 1
    assert {entry[1] for entry in heard.all()} <= children | rescued
    for name, seen in (
        ("session_completed", "completed"),
        ("session_failed", "failed"),
        ("session_suspended", "suspended"),
    ):
        assert {entry[3] for entry in heard.named(name)} == {seen}
    assert [entry[2]["step"] for entry in heard.of("late", "claim_lost")] == ["a"]
    assert [entry[2]["step"] for entry in heard.of("late", "step_checkpointed")] == ["a", "b"]
    assert heard.of("fail", "session_failed")[0][2]["error"]["message"] == "attempt 1 fails"


class Heard:
    """What the handlers have written."""

    def __init__(self, shop: Project) -> None:
        self._file = shop.folder / "events.log"

    def all(self) -> list[list[Any]]:
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [json.loads(line) for line in lines]

    def named(self, name: str) -> list[list[Any]]:
        return [entry for entry in self.all() if entry[0] == name]

    def of(self, session_id: str, name: str) -> list[list[Any]]:
        return [entry for entry in self.named(name) if entry[2].get("session_id") == session_id]
