"""The same task with celery-cascade: `celery -A measure.durable worker`. The store's URL is in the environment."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from celery_cascade import Cascades
from measure import counting, settings, workload

app = Celery("durable")
app.conf.update(settings.celery_settings("durable"), cascade_auto_migrate=True)

FOREVER = 600.0


def mark(word: str) -> None:
    """Note the moment for the runner; the clock is that of the whole machine."""
    with (settings.folder() / "marks").open("a") as file:
        file.write(f"{word} {time.time()}\n")


@worker_ready.connect(weak=False)  # before Cascades connects its own, so that the time of that counts
def on_ready(**_: Any) -> None:
    mark(f"ready:{os.environ.get('CASCADE_BENCH_NAME', '')}")


cascades = Cascades(app)
if os.environ.get(settings.COUNT):
    counting.install(settings.folder())


@app.task(name="bench.step")
def step(given: dict[str, Any]) -> dict[str, Any]:
    return workload.body(given)


@app.task(name="bench.hold")
def hold(label: str) -> None:
    """Runs for ever the first time, and not at all the second."""
    try:
        (settings.folder() / label).touch(exist_ok=False)
    except FileExistsError:
        mark(f"resumed:{label}")
        return
    mark(f"began:{label}")
    time.sleep(FOREVER)
