"""Workers as real processes behind pytest-celery's nodes, for stacks of a broker and a store.

`kill("SIGKILL")` ends the main process alone: its pool children follow by the kernel's hand, as on a real machine.
"""

from __future__ import annotations

import os
import signal as signals
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from celery import Celery
from pytest_celery import CeleryTestWorker, CeleryWorkerContainer

from celery_cascade.definition.cascade import Source
from celery_cascade.definition.plan import make_plan
from celery_cascade.definition.reader import read_cascade
from celery_cascade.lazy import lazy
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.store import Store
from celery_cascade.sessions import view
from support import warm
from support.stacks import Stack
from support.warm import environment

READY = " ready."


PROJECT = '''
import os, time
from pathlib import Path
from celery import Celery
from celery_cascade import Cascades, current_session
from celery_cascade.embedded import embedded

HERE = Path(__file__).parent
settings = {settings!r}
broker = {broker!r}
app = Celery("proj", **(embedded() if broker is None else {{"broker": broker}}))
app.conf.update(settings)
cascades = Cascades(app)


def record(word):
    session = current_session()
    with open(HERE / "runs.log", "a") as file:
        file.write(f"{{session.id}} {{session.step}} {{session.attempt}} {{word}} {{os.getpid()}}\\n")


@app.task
def work(value=None):
    record("ran")
    return value


@app.task
def hold(value=None):
    """Runs until the file `go` is there: the test decides how long a step takes."""
    record("began")
    while not (HERE / "go").exists():
        time.sleep(0.02)
    record("ran")
    return value


@app.task(bind=True)
def die_once(self, value=None):
    """Kills its own pool child in the first attempt."""
    record("began")
    if current_session().attempt == 1:
        os.kill(os.getpid(), 9)
    record("ran")
    return value


@app.task
def die(value=None):
    record("began")
    os.kill(os.getpid(), 9)


@app.task
def fail(times=1):
    record("ran")
    if current_session().attempt <= times:
        raise ValueError(f"attempt {{current_session().attempt}} fails")
    return "ok"
'''


class LocalWorker(CeleryWorkerContainer):
    """A `celery worker` process with the face of pytest-celery's container."""

    def __init__(self, folder: Path, name: str, arguments: tuple[str, ...], app: str = "proj") -> None:
        self.folder, self._name = folder, name
        self._id = uuid.uuid4().hex
        self._log = folder / f"{name}.log"
        self._argv = ["-m", "celery", "-A", app, "worker", "-n", f"{name}@%h", "-l", "INFO"]
        self._argv += ["--without-gossip", "--without-mingle", *arguments]
        self.start()

    def start(self) -> None:
        self._offset = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self.process = warm.start(self._argv, cwd=self.folder, env=environment(), out=log, err=log)

    status = property(lambda self: "running" if self.process.poll() is None else "exited")
    name = property(lambda self: self._name)
    id = property(lambda self: self._id)
    pid = property(lambda self: self.process.pid)

    def reload(self) -> None:
        self.process.poll()

    def logs(self) -> str:
        return self._log.read_text(errors="replace")[self._offset :]

    def ready(self) -> bool:
        wait_for(lambda: READY in self.logs() or self.status != "running", f"worker {self._name} to be ready", 60)
        assert self.status == "running", f"worker {self._name} ended at start:\n{self.logs()[-3000:]}"
        return True

    def kill(self, signal: str | int = "SIGKILL") -> None:
        number = signal if isinstance(signal, int) else getattr(signals, signal)
        os.kill(self.process.pid, number)
        if number == signals.SIGKILL:
            self.process.wait(10)

    def restart(self, timeout: float = 60) -> None:
        if self.status == "running":
            self.kill("SIGTERM")
            self.process.wait(timeout)
        self.start()
        self.ready()

    def children(self) -> list[int]:
        """The pool's processes."""
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True, check=False
        )
        return [int(word) for word in found.stdout.split()]

    def teardown(self) -> None:
        if self.status == "running":
            os.killpg(self.process.pid, signals.SIGKILL)
            self.process.wait(10)

    @classmethod
    def version(cls) -> str:
        import celery

        return celery.__version__


class WorkerNode(CeleryTestWorker):
    def hostname(self) -> str:
        return f"{self.container.name}@{socket.gethostname()}"


class Project:
    """A user's project in a folder of its own: app, tasks, cascade files, workers."""

    def __init__(self, folder: Path, stack: Stack, **settings: Any) -> None:
        self.folder, self.stack = folder, stack
        folder.mkdir(parents=True, exist_ok=True)
        self.nodes: list[WorkerNode] = []
        merged = {"worker_prefetch_multiplier": 1, **stack.settings, **settings}
        if stack.database_url is not None:
            merged["cascade_database_url"] = stack.database_url
        (folder / "proj.py").write_text(PROJECT.format(settings=merged, broker=stack.broker_url))

    def file(self, text: str, name: str = "order.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def python(
        self, code: str, *, check: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run code as a program of the user's would."""
        done = warm.run(["-c", code], cwd=self.folder, env=environment() | (env or {}), timeout=120)
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    def start(self, path: Path, session_id: str, inputs: dict[str, Any] | None = None) -> None:
        self.python(
            f"from proj import cascades; cascades.start({str(path)!r}, {inputs or {}!r}, session_id={session_id!r})"
        )

    @property
    def database_url(self) -> str:
        return self.stack.database_url or f"sqlite:///{self.folder / '.cascade' / 'store.sqlite'}"

    @lazy
    def database(self) -> Database:
        return Database(self.database_url)

    def show(self, session_id: str) -> dict[str, Any]:
        """The session as data, read by this process, which is none of those that run it."""
        store = Store(self.database)
        row = store.session(session_id)
        stored = store.definition(row["definition_digest"])
        plan = make_plan(read_cascade(Source(body=bytes(stored["body"]), format=stored["format"])))
        return view.whole(row, store.steps(session_id), plan, store.now())

    def worker(self, *arguments: str, name: str = "one") -> WorkerNode:
        """Start a worker and wait until it is ready."""
        arguments = arguments or ("-P", "prefork", "-c", "2")
        node = WorkerNode(LocalWorker(self.folder, name, arguments), Celery("tests", set_as_current=False))
        self.nodes.append(node)
        node.ready()
        return node

    def runs(self, session_id: str, word: str = "ran") -> list[str]:
        """The steps whose body wrote `word`, in the order in which they did, as the file says."""
        log = self.folder / "runs.log"
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [line[1] for line in lines if line[0] == session_id and line[3] == word]

    def let_go(self) -> None:
        """Let every `hold` step end."""
        (self.folder / "go").touch()

    def close(self) -> None:
        for node in self.nodes:
            node.teardown()
        self.database.dispose()


def wait_for(true: Callable[[], Any], what: str, seconds: float = 30.0) -> float:
    """Wait until something is so; returns how long it took. Fails with what was waited for."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)
    return time.monotonic() - began


def projects(folder: Path, stack: Stack) -> Iterator[Callable[..., Project]]:
    """A factory of projects on one stack; every worker is ended afterwards."""
    made: list[Project] = []

    def make(name: str = "project", **settings: Any) -> Project:
        made.append(Project(folder / name, stack, **settings))
        return made[-1]

    yield make
    for project in made:
        project.close()
