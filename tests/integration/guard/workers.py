"""Real worker processes, each with a queue and a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from integration.guard.proj import make_app

TESTS = Path(__file__).parents[2]


class Worker:
    """A worker that has been started, and a client of its project."""

    def __init__(self, url: str, folder: Path, pool: str, *, guarded: bool, start: str) -> None:
        self.folder, self.pool = folder, pool
        queue = f"{pool}-{start}-{int(guarded)}"
        self.app, self.runner = make_app(url, queue, str(folder), guarded=guarded, start=start)
        self.log = folder / "worker.log"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
            "GUARD_TEST_URL": url,
            "GUARD_TEST_QUEUE": queue,
            "GUARD_TEST_FOLDER": str(folder),
            "GUARD_TEST_START": start,
            "GUARD_TEST_GUARDED": str(int(guarded)),
        }
        command = [sys.executable, "-m", "celery", "-A", "integration.guard.worker", "worker", "-n", f"{queue}@%h"]
        options = ["-P", pool, "-c", "2", "-l", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *options], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self, what: Callable[[], Any], timeout: float = 60) -> Any:
        """The first true value of `what`; the worker's own words when there is none in time."""
        give_up_at = time.monotonic() + timeout
        while not (value := what()):
            if time.monotonic() > give_up_at or self.process.poll() is not None:
                pytest.fail(f"never came; the worker said:\n{self.log.read_text()[-8000:]}")
            time.sleep(0.05)
        return value

    def notes(self, session: str, last: str) -> list[tuple[str, Any]]:
        """All that was noted of a session, once `last` was."""
        self.wait(lambda: any(word == last for word, _ in self.runner.notes(session)))
        return self.runner.notes(session)


@contextmanager
def running(url: str, folder: Path, pool: str, *, guarded: bool = True, start: str = "fork") -> Iterator[Worker]:
    folder.mkdir(parents=True)
    worker = Worker(url, folder, pool, guarded=guarded, start=start)
    try:
        yield worker
    finally:
        worker.process.terminate()
        try:
            worker.process.wait(20)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        worker.app.close()
