"""Workers and clients as processes of our own, which end with us whatever happens."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from measure import settings

HERE = Path(__file__).resolve().parents[1]
SOURCE = HERE.parent / "src"
TO_START, TO_STOP, TO_WORK = 60.0, 15.0, 600.0


@dataclass(frozen=True)
class Place:
    """Where workers and clients find each other."""

    folder: Path
    broker: str
    store: str | None = None
    count: bool = False

    @classmethod
    def here(cls) -> Place:
        """In a process that was started with `environment`."""
        return cls(settings.folder(), os.environ[settings.BROKER])

    def environment(self, name: str = "") -> dict[str, str]:
        variables = {
            settings.BROKER: self.broker,
            settings.FOLDER: str(self.folder),
            "CASCADE_BENCH_NAME": name,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(SOURCE)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if self.store is not None:
            variables["CELERY_CASCADE_DATABASE_URL"] = self.store
        if self.count:
            variables[settings.COUNT] = "1"
        return {key: value for key, value in os.environ.items() if not key.startswith("CELERY_")} | variables

    def marks(self) -> dict[str, float]:
        """Word -> when it was noted last."""
        path = self.folder / "marks"
        lines = path.read_text().splitlines() if path.exists() else []
        return {word: float(moment) for word, moment in (line.split() for line in lines if line.count(" ") == 1)}


class Worker:
    """One `celery worker`, a process group of its own.

    Args:
        app: `bare` or `durable`.
        apart: in a process namespace of its own, as in another container: nobody can see whether its process lives.
    """

    def __init__(self, place: Place, app: str, name: str, *, children: int = 2, apart: bool = False) -> None:
        self.place, self.name = place, name
        self.log = place.folder / f"{name}.log"
        command = [sys.executable, "-m", "celery", "-A", f"measure.{app}", "worker", "-P", "prefork"]
        command += ["-c", str(children), "-n", f"{name}@bench", "-l", "WARNING", "--without-gossip", "--without-mingle"]
        if apart:
            command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--", *command]
        self.began = time.time()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=HERE,
                env=place.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    pid = property(lambda self: self.process.pid)

    def child_pids(self) -> list[int]:
        """Its pool."""
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def must_live(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"worker {self.name} ended at once:\n{self.log.read_text()[-3000:]}")

    def wait_until_ready(self) -> float:
        """The moment at which it said so."""

        def ready() -> float | None:
            self.must_live()
            moment = self.place.marks().get(f"ready:{self.name}", 0.0)
            return moment if moment >= self.began else None

        return wait_for(ready, f"worker {self.name} to be ready", TO_START)

    def kill(self) -> float:
        """SIGKILL to all of its processes at once; the moment."""
        moment = time.time()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(TO_STOP)
        return moment

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(TO_STOP)
        self.kill()


@contextmanager
def worker(place: Place, app: str, name: str, **options: Any) -> Iterator[Worker]:
    """A worker that is stopped at the end."""
    made = Worker(place, app, name, **options)
    try:
        yield made
    finally:
        made.stop()


def client(place: Place, *arguments: str) -> dict[str, Any]:
    """Run `measure.client`; what it reports."""
    return run(place, "measure.client", *arguments)


def run(place: Place, module: str, *arguments: str) -> dict[str, Any]:
    """Run a module in a process of its own; the JSON of its last line."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command,
        cwd=HERE,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TO_WORK,
        check=False,
        preexec_fn=_die_with_parent,
    )
    if done.returncode:
        logs = "\n".join(f"-- {path.name}\n{path.read_text()[-1500:]}" for path in place.folder.glob("*.log"))
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}\n{logs}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def wait_a_moment(seconds: float) -> None:
    time.sleep(seconds)


def wait_for(look: Callable[[], Any], what: str, seconds: float) -> Any:
    """What `look` gives, once it is neither None nor False."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        found = look()
        if found is not None and found is not False:
            return found
        time.sleep(0.01)
    raise RuntimeError(f"waited {seconds:g} s for {what}")


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Should the runner itself be killed, its workers go too; only Linux can do that."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
