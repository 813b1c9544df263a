"""Programs that are killed, and called again: nothing that was checkpointed is lost or repeated."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.cluster import environment

APP = """\
import os, time
from pathlib import Path
from celery import Celery
from celery_cascade import Cascades, current_session, run_cascade

HERE = Path(__file__).parent
app = Celery("pkg", broker="memory://")
app.conf.update({settings})
cascades = Cascades(app)


def note():
    session = current_session()
    with open(HERE / "runs.log", "a") as file:
        file.write(f"{{session.step}} {{session.attempt}} {{session.idempotency_key}}\\n")


@app.task
def hello(name="nobody"):
    note()
    return f"hello {{name}}"


@app.task
def hold(value=None):
    note()
    while not (HERE / "go").exists():
        time.sleep(0.02)
    return value


@app.task
def nap(value=None):
    note()
    time.sleep(0.02)
    return value
"""
X_YAML = """\
cascade: x
inputs: {name: string}
steps:
  - {id: greet, task: pkg.hello, with: {name: "{{ inputs.name }}"}}
  - {id: wait, task: pkg.hold, with: ["{{ outputs.greet }}"]}
  - {id: last, task: pkg.nap, with: ["{{ outputs.wait }}"]}
"""
ONE_LINER = "from pkg import run_cascade; print(run_cascade('x.yaml', {'name': 'test'}, session_id='t1'))"


class Folder:
    """A user's folder with pkg.py and x.yaml."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        settings = {"cascade_timer_interval": 0.1} | ({"cascade_database_url": url} if url else {})
        (folder / "pkg.py").write_text(APP.format(settings=settings))
        (folder / "x.yaml").write_text(X_YAML)

    def python(self, code: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code], cwd=self.folder, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def done(self, code: str) -> subprocess.CompletedProcess[str]:
        process = self.python(code)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(code, process.returncode, out, err)

    def runs(self) -> list[str]:
        """`step attempt` of every body that began."""
        log = self.folder / "runs.log"
        return [" ".join(line.split()[:2]) for line in log.read_text().splitlines()] if log.exists() else []

    def keys(self, step: str) -> set[str]:
        lines = (self.folder / "runs.log").read_text().splitlines()
        return {line.split()[2] for line in lines if line.split()[0] == step}

    def checkpoints(self) -> list[tuple[int, str, str]]:
        """Version, step, output: as anybody with a SQL client reads them."""
        with sqlite3.connect(self.folder / ".cascade" / "store.sqlite") as connection:
            return connection.execute(
                "SELECT version, step, output FROM session_steps WHERE status = 'succeeded' ORDER BY version"
            ).fetchall()

    def until_ran(self, bodies: int) -> None:
        give_up = time.monotonic() + 30
        while len(self.runs()) < bodies:
            assert time.monotonic() < give_up, f"never {bodies} bodies: {self.runs()}"
            time.sleep(0.005)

    def until(self, step: str) -> None:
        give_up = time.monotonic() + 30
        while step not in self.runs():
            assert time.monotonic() < give_up, f"{step} never began: {self.runs()}"
            time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, None)


def test_the_one_liner_returns_the_result_and_goes_on_after_a_kill(tmp_path: Path, store_url: str) -> None:
    """R13, R52, R69, D11: killed in the middle of a step and called again, the same line gives the result; what was
    checkpointed is not run again, the step that ran runs again with the same idempotency key.
    """
    folder = Folder(tmp_path, store_url)
    unique = ONE_LINER.replace("t1", f"t1-{os.getpid()}-{tmp_path.name[-12:]}".replace("_", "-")[:36])
    process = folder.python(unique)
    folder.until("wait 1")
    process.kill()
    process.communicate()
    (folder.folder / "go").touch()
    again = folder.done(unique)
    assert (again.returncode, again.stdout) == (0, "hello test\n"), again.stderr
    assert folder.runs() == ["greet 1", "wait 1", "wait 2", "last 1"]
    assert len(folder.keys("wait")) == 1
    once_more = folder.done(unique)
    assert once_more.returncode == 1
    assert "exists already and has ended (completed)" in once_more.stderr
    assert len(folder.runs()) == 4


def test_a_start_that_is_killed_at_once_is_in_the_store(folder: Folder) -> None:
    """R7: definition and inputs are committed before the first step is published."""
    code = (
        "import os, signal; from pkg import app, cascades; from celery import signals\n"
        "signals.before_task_publish.connect(lambda **_: os.kill(os.getpid(), signal.SIGKILL), weak=False)\n"
        "cascades.start('x.yaml', {'name': 'test'}, session_id='t1')"
    )
    killed = folder.done(code)
    assert killed.returncode == -signal.SIGKILL
    with sqlite3.connect(folder.folder / ".cascade" / "store.sqlite") as connection:
        row = connection.execute(
            "SELECT s.input_data, d.body, s.config_path FROM cascade_sessions s"
            " JOIN cascade_definitions d ON d.digest = s.definition_digest WHERE s.session_id = ?", ("t1",)
        ).fetchone()  # fmt: skip
        steps = connection.execute("SELECT step, status, wake_at IS NOT NULL FROM session_steps").fetchall()
    assert json.loads(row[0]) == {"name": "test"}
    assert bytes(row[1]) == X_YAML.encode()
    assert row[2] == str(folder.folder / "x.yaml")
    assert steps == [("greet", "queued", 1)]  # and its message is sent again when its time comes
    (folder.folder / "go").touch()
    assert folder.done(ONE_LINER).stdout == "hello test\n"


def test_a_run_that_is_killed_right_after_its_start_is_known_to_be_nobodys(folder: Folder) -> None:
    """R7, R127: its steps were for that process alone; a worker's first look makes them due for everybody."""
    code = (
        "import os; from pkg import cascades; from celery_cascade import events\n"
        "events.session_started.connect(lambda **_: os.kill(os.getpid(), 9), weak=False)\n"
        "cascades.run('x.yaml', {'name': 'test'}, session_id='t1')"
    )
    assert folder.done(code).returncode == -signal.SIGKILL
    look = (
        "from pkg import cascades; from celery_cascade.tasks import recovery\n"
        "recovery.recover(cascades.runtime, witness=False)\n"
        "print(recovery.send_due(cascades.runtime))"
    )
    assert folder.done(look).stdout == "1\n"


def test_kills_at_any_moment_leave_a_readable_checkpoint(folder: Folder) -> None:
    """R81: killed at random moments until it is done: each checkpoint stays as it was, none is written twice."""
    steps = "".join(f"  - {{id: s{n}, task: pkg.nap, with: [{n}]}}\n" for n in range(12))
    (folder.folder / "x.yaml").write_text(f"cascade: x\nsteps:\n{steps}")
    line = "from pkg import run_cascade; print(run_cascade('x.yaml', session_id='t1'))"
    chance = random.Random(20260801)
    points: list[Any] = []
    for kill in range(1, 4):
        process = folder.python(line)
        folder.until_ran(kill * 3)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.communicate()
        found = folder.checkpoints()
        assert found[: len(points)] == points
        points = found
    assert folder.done(line).stdout == "11\n"
    found = folder.checkpoints()
    assert found[: len(points)] == points
    assert [step for _, step, _ in found] == [f"s{n}" for n in range(12)]
    assert sorted({run.split()[0] for run in folder.runs()}) == sorted(f"s{n}" for n in range(12))
    assert 12 <= len(folder.runs()) <= 12 + 3  # at most the step that ran at each kill runs again


def test_without_an_app_the_error_names_all_three_ways(folder: Folder) -> None:
    """D13: app=, CELERY_APP, or the current app."""
    told = folder.done("from celery_cascade import run_cascade; run_cascade('x.yaml')")
    assert told.returncode == 1
    assert "ConfigError: there is no Celery app" in told.stderr
    for way in ("app=", "CELERY_APP", "import the module"):
        assert way in told.stderr


def test_a_program_that_a_step_starts_is_a_worker_of_its_own(folder: Folder) -> None:
    """It inherits the environment of the worker that runs the step, but is not one of its processes: what it runs
    must not be taken for lost by that worker, nor held by it when the program is killed.
    """
    code = (
        "import os; os.environ['CELERY_CASCADE_WORKER'] = 'the-parents'\n"
        "from pkg import cascades; s = cascades.run({'cascade': 'x', 'steps': [{'id': 'a', 'task': 'pkg.nap'}]})\n"
        "row = cascades.runtime.store.steps(s.id)[0]\n"
        "print(row['worker'] != 'the-parents', row['nodename'].startswith('here@'))"
    )
    done = folder.done(code)
    assert done.stdout == "True True\n", done.stderr


def test_a_plain_app_is_as_it_was_when_the_plugin_is_only_installed(folder: Folder) -> None:
    """R87: imported but not given an app, nothing of Celery's is changed, and no file is made."""
    code = (
        "from celery import Celery, chain, signals; from celery.app.task import Task; before = Task.__call__\n"
        "import celery_cascade, celery_cascade.embedded\n"
        "app = Celery('plain', broker='memory://', backend='cache+memory://'); app.conf.task_always_eager = True\n"
        "@app.task(name='add')\ndef add(x, y=1): return x + y\n"
        "ours = sorted(name for name in app.tasks if 'cascade' in name)\n"
        "print(chain(add.s(1), add.s(10))().get(), Task.__call__ is before, ours)"
    )
    done = folder.done(code)
    assert done.stdout == "12 True []\n", done.stderr
    assert sorted(path.name for path in folder.folder.iterdir()) == ["pkg.py", "x.yaml"]


def test_two_programs_that_run_one_session_at_once_run_each_step_once(folder: Folder) -> None:
    """R12, rule 2: the same line in two terminals: one claims, the other waits, both get the result."""
    first, second = folder.python(ONE_LINER), folder.python(ONE_LINER)
    folder.until("wait 1")
    time.sleep(0.3)
    (folder.folder / "go").touch()
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    results = sorted(out for out, _ in outputs)
    assert results[-1] == "hello test\n", outputs
    assert results[0] in ("hello test\n", ""), outputs
    for out, err in outputs:
        assert out or "has ended (completed)" in err, outputs
    assert sorted(folder.runs()) == ["greet 1", "last 1", "wait 1"]
