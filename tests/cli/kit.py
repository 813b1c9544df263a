"""A project of a user in a folder of its own, and the command line over it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from celery_cascade.app import Cascades
from celery_cascade.cli import cascade
from celery_cascade.persistence.rows import StepKey
from celery_cascade.tasks import recovery
from celery_cascade.tasks.runtime import Runtime

SOURCE = Path(__file__).parents[2] / "src"

MODULE = """
import os, time
from celery import Celery
from celery_cascade.app import Cascades
from celery_cascade.embedded import embedded

app = Celery(__name__, **embedded())
app.conf.update({settings!r})
cascades = Cascades(app)

@app.task(name="shop.add", shared=False)
def add(x, y=1):
    return x + y

@app.task(name="shop.echo", shared=False)
def echo(value=None):
    return value

@app.task(name="shop.sleep", shared=False)
def sleep(seconds):
    time.sleep(seconds)
    return "slept"

@app.task(name="shop.fail", shared=False)
def fail(message="it is broken", unless="go"):
    if not os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), unless)):
        raise ValueError(message)
    return "mended"
"""

ORDER = """\
# how an order goes
cascade: order
inputs:
  n: integer
  word: {type: string, default: none}
steps:
  - id: one
    task: shop.add
    with: {x: "{{ inputs.n }}"}
  - id: two
    task: shop.add
    with: {x: "{{ outputs.one }}", y: 10}
output: {sum: "{{ outputs.two }}", word: "{{ inputs.word }}"}
"""

BROKEN = """\
cascade: broken
steps:
  - {id: before, task: shop.echo, with: {value: 1}}
  - {id: boom, task: shop.fail, retry: {max_attempts: 2, delay: 10ms}}
"""

SLEEPY = """\
cascade: sleepy
inputs: {seconds: {type: number, default: 0.5}}
steps:
  - {id: first, task: shop.sleep, with: {seconds: "{{ inputs.seconds }}"}}
  - {id: second, task: shop.echo, with: {value: end}}
"""


class Project:
    """A folder with an app and cascade files; `run` is the command line in this process, `start` in another."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.name = f"proj_{uuid.uuid4().hex[:8]}"
        (folder / f"{self.name}.py").write_text(MODULE.format(settings=settings))
        for name, text in (("order", ORDER), ("broken", BROKEN), ("sleepy", SLEEPY)):
            (folder / f"{name}.yaml").write_text(text)

    def run(self, *args: str, input: str | None = None, app: bool = True) -> Result:
        before = ["-A", self.name] if app else []
        return CliRunner().invoke(cascade, [*before, *args], input=input)

    def json(self, *args: str, code: int = 0, **options: Any) -> Any:
        result = self.run(*args, "--json", **options)
        assert result.exit_code == code, (result.output, result.exception)
        return json.loads(result.stdout)

    def started(self, *args: str) -> str:
        """A session that waits for a worker."""
        result = self.run("run", "order.yaml", "-i", "n=1", "--detach", *args)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    def in_doubt(self, *, on_crash: str | None = "ask") -> str:
        """A session whose first step lost its worker, and says `on_crash: ask`."""
        session_id = self.started()
        self.lose(session_id, "one", on_crash=on_crash)
        return session_id

    def lose(self, session_id: str, *steps: str, on_crash: str | None = "ask") -> None:
        """Steps of a session are claimed by a worker that is gone, and recovery looks."""
        for step in steps:
            key, token = StepKey(session_id, step), uuid.uuid4().hex
            found = self.runtime.store.claim(
                key, attempt=1, token=token, worker="gone", runner="1.1", on_crash=on_crash
            )
            assert found is not None
        recovery.recover(self.runtime, witness=False)

    def ended(self, file: str = "order.yaml", *args: str) -> str:
        """A session that was run here to its end."""
        given = ["-i", "n=1"] if file == "order.yaml" else []
        result = self.run("run", file, *given, "--local", *args)
        assert result.exit_code in (0, 1), result.output
        return id_in(result.stderr)

    @property
    def cascades(self) -> Cascades:
        from celery_cascade.app import cascades_of

        return cascades_of(self.name)

    @property
    def runtime(self) -> Runtime:
        return self.cascades.runtime

    def environment(self) -> dict[str, str]:
        entries = self.folder / "installed"  # what pip would have made, in case the package is only on the path
        info = entries / "celery_cascade-0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: celery-cascade\nVersion: 0\n")
        (info / "entry_points.txt").write_text("[celery.commands]\ncascade = celery_cascade.cli:cascade\n")
        return {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{entries}", "PYTHONUNBUFFERED": "1"}

    def start(self, *args: str, celery: bool = True, **options: Any) -> subprocess.Popen[str]:
        """`celery -A proj cascade …`, or `cascade -A proj …`, as a process."""
        if celery:
            command = [sys.executable, "-m", "celery", "-A", self.name, "cascade", *args]
        else:
            command = [sys.executable, "-m", "celery_cascade.cli", "-A", self.name, *args]
        return self.popen(command, **options)

    def popen(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        env = self.environment() | options.pop("env", {})
        return subprocess.Popen(command, cwd=self.folder, env=env, text=True, **(pipes | options))


def id_in(words: str) -> str:
    found = re.search(r"^Session (\S+)$", words, re.MULTILINE)
    assert found, words
    return found[1]


def commands_in(words: str) -> list[list[str]]:
    """The commands of ours that a text tells people to type, without the program and its app."""
    return [line[1].split() for line in re.finditer(r"cascade -A \S+ (.*)$", words, re.MULTILINE)]


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up_at, "it did not come true in time"
        time.sleep(0.05)
