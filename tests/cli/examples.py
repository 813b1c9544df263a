"""Where the examples of all verbs work: a project `proj` with the files and sessions that they name.

**To add an example**: write it into `example=` of your verb, and it is run. By default it is to exit 0 in the world
that `build` makes, which has

- `proj.py` with the tasks `shop.charge`, `shop.label` and `shop.answer`, and `checks.py` (for crashtest);
- `order.yaml` (inputs `order_id`, `amount`, `email`; steps `charge`, `label`), `refund.yaml`, `chat.yaml` (`message`);
- the thread `support-7` of the resource `ann`;
- the sessions of `SESSIONS`, whose ids begin as those in the examples do; `@last` has completed, `@last-failed` failed.

What needs more gets a line in `SCENES`: the beginning of its words -> a `Scene`. A word that nobody can choose, such as
a digest, gets a line in `stand_ins`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
from click.testing import CliRunner, Result

from celery_cascade.cli import cascade
from celery_cascade.cli.group import VERBS
from celery_cascade.errors import CascadeError
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.tasks.driver import drive
from celery_cascade.tasks.runtime import Runtime
from cli.kit import Project

ROOT = Path(__file__).parents[2]
#: Whose ids begin so -> what it is.
SESSIONS = {
    "3f2a91": "an order that waits for a worker",
    "7d1e02": "an order that is suspended",
    "e07a55": "an order that failed at `charge`",
    "9c41d0": "an order that has completed; the newest session",
}
MODULE = """
import os
from celery import Celery
from celery_cascade import Cascades
from celery_cascade.embedded import embedded

app = Celery("proj", **embedded())
cascades = Cascades(app)
HERE = os.path.dirname(os.path.abspath(__file__))

@app.task(name="shop.charge", shared=False)
def charge(order_id, email=None):
    if os.path.exists(os.path.join(HERE, "bank-is-down")):
        raise ConnectionError("the bank is down")
    return {"receipt": order_id, "lines": [3]}

@app.task(name="shop.answer", shared=False)
def answer(message):
    return f"you said {message}"

@app.task(name="shop.label", shared=False)
def label(receipt):
    return f"label {receipt}"
"""
CHECKS = """
def rows():
    return []

def empty():
    pass
"""
ORDER = """\
cascade: order
inputs:
  order_id: integer
  amount: {type: number, default: 100}
  email: {type: string, default: nobody@example.org}
steps:
  - id: charge
    task: shop.charge
    with: {order_id: "{{ inputs.order_id }}", email: "{{ inputs.email }}"}
  - id: label
    task: shop.label
    with: {receipt: "{{ outputs.charge.receipt }}"}
"""

CHAT = """\
cascade: chat
inputs: {message: string}
steps:
  - {id: answer, task: shop.answer, with: {message: "{{ inputs.message }}"}}
"""


class World(Project):
    """A folder in which the examples work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = "proj"

    def example(self, line: str, *more: str) -> Result:
        """Run a line as a shell would, in this process: `x=$(…)`, `> FILE` and `| …` are understood."""
        words, target = taken_apart(self.stood_in(line))
        result = CliRunner().invoke(cascade, [*words, *more], input="y\n")
        if target is not None:
            path = Path(os.path.expanduser(target))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(result.stdout_bytes)
        return result

    def stood_in(self, line: str) -> str:
        for word, true in self.stand_ins().items():
            line = line.replace(word, true)
        return line

    def stand_ins(self) -> dict[str, str]:
        """Words of examples that stand for what nobody can choose."""
        return {"5c0ffe": self.cascades.session(self.session("9c41d0")).source.digest[:6]} if self.has_store else {}

    @property
    def has_store(self) -> bool:
        return (self.folder / ".cascade" / "store.sqlite").exists()

    def session(self, prefix: str) -> str:
        """The whole id."""
        return f"{prefix}c0-0000-4000-8000-000000000000"


def documented() -> list[tuple[str, str]]:
    """(verb, line) of every example of every verb, a verb's own verbs included."""
    ctx = click.Context(cascade)
    found: list[tuple[str, str]] = []
    waiting = [(verb, cascade.get_command(ctx, verb)) for verb in VERBS]
    while waiting:
        name, command = waiting.pop(0)
        found += [(name, line) for line in getattr(command, "example", ())]
        if isinstance(command, click.Group):
            waiting += [(f"{name} {word}", inner) for word, inner in command.commands.items()]
    return found


def taken_apart(line: str) -> tuple[list[str], str | None]:
    """The arguments of our group, and the file that the output goes to."""
    if line.endswith(")") and "=$(" in line:
        line = line.partition("=$(")[2][:-1]
    words = shlex.split(line)
    if "|" in words:
        words = words[: words.index("|")]
    target = None
    if ">" in words:
        target = words[words.index(">") + 1]
        words = words[: words.index(">")]
    match words:
        case ["celery", "-A", app, "cascade", *rest]:
            return ["-A", app, *rest], target
        case ["cascade", *rest]:
            return rest, target
    raise AssertionError(f"an example begins with `celery -A proj cascade` or with `cascade`: {line}")


# -- the world
def build(folder: Path, template: Path) -> None:
    """Files and sessions; made once, and copied for each example."""
    (folder / "proj.py").write_text(MODULE)
    (folder / "checks.py").write_text(CHECKS)
    (folder / "order.yaml").write_text(ORDER)
    (folder / "refund.yaml").write_text(ORDER.replace("cascade: order", "cascade: refund"))
    (folder / "chat.yaml").write_text(CHAT)
    (folder / ".cascade").mkdir()
    shutil.copyfile(template, folder / ".cascade" / "store.sqlite")
    world = World(folder)
    with living(world):
        down = folder / "bank-is-down"
        _start(world, "3f2a91", "--detach", "--tag", "nightly", "--name", "first")
        _start(world, "7d1e02", "--detach")
        world.cascades.session(world.session("7d1e02")).suspend()
        down.touch()
        _start(world, "e07a55", "--local")
        down.unlink()
        _start(world, "9c41d0", "--local", order="8")
        saved = world.run("threads", "save", "support-7", "--resource", "ann", world.session("9c41d0"))
        assert saved.exit_code == 0, saved.output
    with closing(sqlite3.connect(folder / ".cascade" / "store.sqlite")) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _start(world: World, prefix: str, *more: str, order: str = "7") -> None:
    result = world.run("run", "order.yaml", "-i", f"order_id={order}", "--session", world.session(prefix), *more)
    assert result.exit_code in (0, 1), result.output


@contextmanager
def living(world: World) -> Iterator[None]:
    """The module `proj` of this folder, and of no other."""
    before = os.getcwd()
    os.chdir(world.folder)
    sys.path.insert(0, str(world.folder))
    try:
        yield
    finally:
        os.chdir(before)
        sys.path.remove(str(world.folder))
        for name in ("proj", "checks"):
            module = sys.modules.pop(name, None)
            if module is not None and hasattr(module, "cascades"):
                if module.cascades.runtime._store is not None:
                    module.cascades.runtime._store.database.dispose()
                module.app.close()


# -- what some of them need
@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an example needs beyond the world as it is.

    Args:
        prepare: what has to happen first.
        code: the exit codes that are right.
        worker: something runs what is queued meanwhile.
        more: arguments that bound what would take minutes.
        elsewhere: it is run for real by the tests in this file, and not here.
    """

    prepare: Callable[[World], object] | None = None
    code: tuple[int, ...] = (0,)
    worker: bool = False
    more: tuple[str, ...] = ()
    elsewhere: str | None = None


def ended(world: World) -> None:
    """3f2a91 has completed."""
    assert world.run("resume", world.session("3f2a91"), "--local").exit_code == 0


def in_doubt(world: World) -> None:
    """The worker of 3f2a91 is lost in the middle of `charge`."""
    world.lose(world.session("3f2a91"), "charge")


SCENES = {
    "run": Scene(worker=True),
    "replay 3f2a91": Scene(prepare=ended),
    "watch @last": Scene(worker=True),
    "resume @last-failed --watch": Scene(worker=True),
    "resume 3f2a91 --done": Scene(prepare=in_doubt),
    "resume 3f2a91 --step charge --again": Scene(prepare=in_doubt),
    "diff": Scene(code=(1,)),
    "fork 3f2a91": Scene(prepare=ended, worker=True),
    "fork @last-failed": Scene(worker=True),
    "rerun": Scene(worker=True),
    "rm 3f2a91": Scene(prepare=lambda world: world.run("cancel", world.session("3f2a91"))),
    "rm --yes 3f2a91": Scene(prepare=lambda world: world.run("cancel", world.session("3f2a91"))),
    "crashtest order.yaml": Scene(more=("--points", "body", "--in-body", "0")),
    "demo": Scene(elsewhere="tests/integration/test_demo.py"),
}


def scene_of(line: str) -> Scene:
    """The scene of an example: the longest beginning of its words that is known."""
    words, _ = taken_apart(line)
    text = " ".join(words[2:] if words[:1] == ["-A"] else words)
    known = [begins for begins in SCENES if f"{text} ".startswith(f"{begins} ")]
    return SCENES[max(known, key=len)] if known else Scene()


@contextmanager
def a_worker(world: World) -> Iterator[None]:
    """Stands in for `celery -A proj worker`: runs the sessions that are active, in a thread."""
    runtime, over = world.runtime, threading.Event()

    def work(runtime: Runtime) -> None:
        while not over.wait(0.05):
            for row in runtime.store.sessions(SessionFilter(status=["active"])):
                with suppress(CascadeError):
                    drive(runtime, row["session_id"])

    thread = threading.Thread(target=work, args=(runtime,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=30)
