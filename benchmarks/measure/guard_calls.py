"""Times the tracer of a task with and without the guard, in a process of its own: `python -m measure.guard_calls`."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from celery import Celery, Task
from celery.app.trace import build_tracer, setup_worker_optimizations

from celery_cascade import Cascades
from celery_cascade.tasks.annotations import is_guarded
from celery_cascade.tasks.guard import GUARDED

BATCH = 500


class OwnCall(Task):
    """As many projects have: a base class with a `__call__`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


def tracer(app: Celery, name: str, base: type[Task], *, guarded: bool) -> Callable[[], Any]:
    """A function that calls a no-op task as a worker's child does."""

    @app.task(name=name, base=base)
    def noop(value: int) -> int:
        return value

    task = app.tasks[name]
    if not guarded:
        # The same app for both: with two, the one that is not Celery's current app is slower by some 1,000 ns.
        for method in GUARDED:
            if method in vars(type(task)):
                delattr(type(task), method)
    assert is_guarded(type(task), "__call__") is guarded
    trace = build_tracer(name, task, app.loader, "bench", app=app)

    def call() -> None:
        # As in a message from `delay`: Celery makes the request of it, and keeps nothing.
        request = {
            "id": "1", "root_id": "1", "parent_id": None, "group": None, "ignore_result": True, "is_eager": False,
            "headers": {"lang": "py", "task": name}, "args": (1,), "kwargs": {}, "hostname": "bench",
        }  # fmt: skip
        trace("1", (1,), {}, request)

    return call


def nanoseconds(call: Callable[[], Any]) -> float:
    """CPU time of one call, in a batch: what the machine does besides counts as little as possible."""
    began = time.thread_time_ns()
    for _ in range(BATCH):
        call()
    return (time.thread_time_ns() - began) / BATCH


def compare(app: Celery, name: str, base: type[Task], rounds: int) -> dict[str, float]:
    plain, guarded = (tracer(app, f"{name}-{on}", base, guarded=on) for on in (False, True))
    nanoseconds(plain), nanoseconds(guarded)
    pairs = []
    for _ in range(rounds):
        gc.collect()  # what one leaves behind is not to be paid by the other
        pairs.append((nanoseconds(plain), nanoseconds(guarded)))
    return {
        "plain": median(plain for plain, _ in pairs),
        "guarded": median(guarded for _, guarded in pairs),
        "difference": median(guarded - plain for plain, guarded in pairs),
    }


def main() -> None:
    rounds = int(sys.argv[1])
    app = Celery("guard", broker="memory://")
    app.conf.task_ignore_result = True
    Cascades(app)
    setup_worker_optimizations(app, "bench")
    gc.collect()
    gc.freeze()
    found = {
        "an ordinary task": compare(app, "ordinary", Task, rounds),
        "a task whose class has a `__call__` of its own": compare(app, "own", OwnCall, rounds),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
