"""A project on a real worker, and a runner that keeps its notes in a folder which all its processes share.

The runner is the smallest that can answer for steps: a claim is a file that can be created once, and a further attempt
is a further message. The worker is started with `-A integration.guard.worker`.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any

from celery import Celery, Task, chain, chord, group, shared_task
from celery.exceptions import Ignore, Reject
from celery.signals import worker_init

from celery_cascade.tasks.attempt import SESSION_HEADER, STEP_HEADER, Attempt, RetryAsked, StepRef
from celery_cascade.tasks.guard import install_guard


class FolderRunner:
    """Notes are lines of `notes.jsonl`; arguments of steps are in `calls/`; claims in `claims/`."""

    def __init__(self, app: Celery, folder: Path) -> None:
        self.app, self.folder = app, folder
        for name in ("calls", "claims"):
            (folder / name).mkdir(exist_ok=True)

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Start a session of one step; the step is named as its task."""
        session = uuid.uuid4().hex
        self.publish(session, task, {"args": args, "retries": 0, "failures": 0, "task": task}, **options)
        return session

    def publish(self, session: str, step: str, call: dict[str, Any], attempt: int = 1, **options: Any) -> None:
        task_id = f"{session}-{attempt}"
        (self.folder / "calls" / task_id).write_text(json.dumps(call))
        ref = StepRef(store="folder", session=session, step=step, item=-1, attempt=attempt, task_id=task_id)
        headers = {SESSION_HEADER: session, STEP_HEADER: ref.as_header()}
        self.app.send_task(call["task"], task_id=task_id, headers=headers, **options)

    def claim(self, ref: StepRef, request: Any) -> Attempt | None:
        try:
            (self.folder / "claims" / ref.task_id).touch(exist_ok=False)
        except FileExistsError:
            self.note(ref, "refused")
            return None
        call = json.loads((self.folder / "calls" / ref.task_id).read_text())
        self.note(ref, "claim", call["retries"])
        return Attempt(ref=ref, token="t", args=call["args"], kwargs={}, retries=call["retries"], detail=call)

    def succeed(self, attempt: Attempt, value: Any) -> None:
        self.note(attempt.ref, "succeed", value)

    def fail(self, attempt: Attempt, error: BaseException) -> float | None:
        self.note(attempt.ref, "fail", type(error).__name__)
        if attempt.detail["failures"] or not str(error).startswith("once"):
            return None
        self._again(attempt, failures=1)
        return 0.1

    def retry(self, attempt: Attempt, asked: RetryAsked) -> float:
        self.note(attempt.ref, "retry", asked.delay)
        args = attempt.args if asked.args is None else asked.args
        self._again(attempt, args=args, retries=attempt.retries + 1)
        return asked.delay

    def skip(self, attempt: Attempt) -> None:
        self.note(attempt.ref, "skip")

    def requeue(self, attempt: Attempt, delay: float) -> None:
        self.note(attempt.ref, "requeue", delay)

    def abandon(self, attempt: Attempt, error: BaseException) -> None:
        self.note(attempt.ref, "abandon", type(error).__name__)

    def _again(self, attempt: Attempt, **changes: Any) -> None:
        ref = attempt.ref
        self.publish(ref.session, ref.step, attempt.detail | changes, ref.attempt + 1)

    def note(self, ref: StepRef, word: str, value: Any = None) -> None:
        write_line(self.folder / "notes.jsonl", session=ref.session, word=word, value=value)

    def notes(self, session: str) -> list[tuple[str, Any]]:
        return [(line["word"], line["value"]) for line in read_lines(self.folder / "notes.jsonl", session=session)]


def write_line(path: Path, **fields: Any) -> None:
    with path.open("a") as file:  # one write of one short line: whole, whoever else appends
        file.write(json.dumps(fields) + "\n")


def read_lines(path: Path, **wanted: Any) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if wanted.items() <= line.items()]


def logged(call):
    @functools.wraps(call)
    def wrapper(self, *args, **kwargs):
        return call(self, *args, **kwargs)

    return wrapper


class Decorated(Task):
    abstract = True

    @logged
    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs) + 100


def around(call):
    def annotated(self, *args, **kwargs):
        if self.name == "annotated":
            kwargs["x"] = kwargs.pop("x", 0) + 1
        return call(self, *args, **kwargs)

    return annotated


@shared_task(name="shared")
def shared(x):
    return x + 1


def make_app(url: str, queue: str, folder: str, *, guarded: bool, start: str) -> tuple[Celery, FolderRunner]:
    broker, backend = url.split()
    app = Celery("proj", broker=broker, backend=backend, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        include=["integration.guard.worker"] if start == "spawn" else [],  # a fresh process has to find it
        worker_pool_start_method=start,
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=4,
        result_chord_join_timeout=10,
        task_annotations={"*": {"rate_limit": "50/s", "@__call__": around}, "annotated": {"max_retries": 9}},
    )
    runner = FolderRunner(app, Path(folder))
    if guarded:
        install_guard(app, runner)
    add_steps(app, Path(folder))
    add_plain_tasks(app, Path(folder))
    return app, runner


def add_steps(app: Celery, folder: Path) -> None:
    def task(**options):
        return app.task(shared=False, **options)

    @task(name="bound", bind=True)
    def bound(self, x):
        assert self.request.id
        assert self.request.args == [x]
        return x + 1

    @task(name="decorated", base=Decorated)
    def decorated(x):
        return x + 1

    @task(name="annotated")
    def annotated(x=0):
        return x

    @task(name="late-acks", acks_late=True, ignore_result=True)
    def late_acks(x):
        return x + 1

    @task(name="retries", bind=True, max_retries=2)
    def retries(self, x):
        if self.request.retries < 2:
            raise self.retry(args=[x + 1], countdown=0)
        return x

    @task(name="gives-up", bind=True, max_retries=1)
    def gives_up(self):
        raise self.retry(countdown=0, exc=OSError("down"))

    @task(name="autoretries", bind=True, autoretry_for=(OSError,), retry_kwargs={"countdown": 0})
    def autoretries(self):
        if not self.request.retries:
            raise OSError("down")
        return "up"

    @task(name="fails-once")
    def fails_once():
        raise ValueError("once and again")

    @task(name="ignores")
    def ignores():
        raise Ignore

    @task(name="rejects")
    def rejects(requeue):
        raise Reject("not now", requeue=requeue)

    @task(name="soft", soft_time_limit=1, time_limit=30)
    def soft():
        time.sleep(20)

    @task(name="hard", time_limit=1)
    def hard():
        time.sleep(20)

    @task(name="hard-and-deaf", time_limit=1)
    def hard_and_deaf():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # as a body that is busy in C
        time.sleep(20)

    @task(name="exits")
    def exits():
        raise SystemExit(3)

    @task(name="spawns", bind=True)
    def spawns(self):
        app.tasks["witness"].delay("spawned by a step")
        return app.tasks["witness"]("called in a step")

    @worker_init.connect(weak=False)  # after the worker has finalized the app
    def register_late(**_):
        app.finalize()

        @task(name="late")
        def late(x):
            return x + 1


def add_plain_tasks(app: Celery, folder: Path) -> None:
    def task(**options):
        return app.task(shared=False, **options)

    def note_headers(request, what):
        headers = request.headers or {}
        write_line(folder / "seen.jsonl", what=what, session=headers.get(SESSION_HEADER), step=STEP_HEADER in headers)
        return what

    @task(name="witness", bind=True)
    def witness(self, what, *_):
        return note_headers(self.request, what)

    @task(name="witness-retries", bind=True)
    def witness_retries(self, what):
        if not self.request.retries:
            raise self.retry(countdown=0)
        return note_headers(self.request, what)

    @task(name="witness-replaced", bind=True)
    def witness_replaced(self, what):
        raise self.replace(witness.si(what) | witness.si(f"{what}, then"))

    @task(name="fails")
    def fails(*_):
        raise ValueError("no")

    @task(name="tree", bind=True)
    def tree(self):
        see = witness.si
        see("spawned").delay()
        chain(see("chain 1"), see("chain 2"), see("chain 3")).delay()
        group(see("group 1"), see("group 2")).delay()
        chord([see("header 1"), chain(see("header 2.1"), see("header 2.2"))], see("body")).delay()
        chain(see("before"), group(see("in chain 1"), see("in chain 2")), see("after")).delay()
        witness.apply_async(["linking"], link=see("linked"))
        fails.apply_async(link_error=see("error link"))
        witness_retries.delay("retried")
        witness_replaced.delay("replaced")
        app.send_task("witness", ["by name"])
        return os.getpid()

    @task(name="add")
    def add(x, y):
        return x + y

    @task(name="total")
    def total(numbers):
        return sum(numbers)

    @task(name="patient", bind=True, default_retry_delay=0, max_retries=3)
    def patient(self, x):
        if self.request.retries < 2:
            raise self.retry(args=[x + 1])
        return x, self.request.retries

    @task(name="replacing", bind=True)
    def replacing(self, x):
        raise self.replace(add.s(x, 1) | add.s(10))
