"""The processes of a run: workers on every pool, and clients that start sessions."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from support import warm
from support.chaos.ground import Ground
from support.chaos.shapes import Job
from support.warm import environment

#: A worker's name -> how it is started. Side by side, as in a project that moves from one pool to another.
MIX = {
    "prefork": ("-P", "prefork", "-c", "2"),
    "threads": ("-P", "threads", "-c", "2"),
    "solo": ("-P", "solo"),
}


def launch(ground: Ground, name: str, *arguments: str, stdin: bool = False) -> Any:
    """A process group of its own, with a log in the folder."""
    with (ground.folder / f"{name}.log").open("ab") as log:
        return warm.start([*arguments], cwd=ground.folder, env=environment(), out=log, err=log, stdin=stdin)


def end_group(process: Any) -> None:
    """Kill a process and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


class Worker:
    """One node; it keeps its name through all of its lives."""

    def __init__(self, ground: Ground, name: str, arguments: tuple[str, ...]) -> None:
        self.ground, self.name, self.arguments = ground, name, arguments
        self.lives: list[Any] = []
        self.told_to_end = False
        self.start()

    def start(self) -> None:
        self.told_to_end = False
        self.process = launch(
            self.ground, self.name, "-m", "celery", "-A", "proj", "worker", "-n", f"{self.name}@%h",
            "-l", "INFO", "--without-gossip", "--without-mingle", *self.arguments,
        )  # fmt: skip
        self.lives.append(self.process)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> Path:
        return self.ground.folder / f"{self.name}.log"

    def children(self) -> list[int]:
        """The pool's processes, if it has some."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.pid).children()]
        return []

    def kill(self) -> None:
        """SIGKILL to the main process alone, which is what the kernel does to the largest one."""
        self.process.kill()
        self.process.wait(30)
        self.told_to_end = True

    def terminate(self) -> None:
        """Celery's warm shutdown."""
        self.told_to_end = True
        self.process.terminate()

    def close(self) -> None:
        for life in self.lives:  # orphaned pool children of earlier ones included
            end_group(life)


class Client:
    """A process that starts sessions; one job at a time."""

    def __init__(self, ground: Ground, name: str) -> None:
        self.ground, self.name = ground, name
        self.job: Job | None = None
        self.start()

    def start(self) -> None:
        self.process = launch(self.ground, self.name, "client.py", stdin=True)

    def give(self, job: Job, *, die: bool) -> None:
        self.job, self.die = job, die
        line = {"id": job.id, "file": str(self.ground.file(job.shape.name)), "inputs": job.inputs, "die": die}
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died; whoever looks gives the job again
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()

    def close(self) -> None:
        end_group(self.process)
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
