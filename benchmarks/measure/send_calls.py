"""Times `.delay()` of a plain and of a decorated task, by turns, in a process of its own: `-m measure.send_calls`."""

from __future__ import annotations

import json
import sys
import time
from statistics import median
from typing import Any

from celery import Celery

from celery_cascade import Cascades
from measure import settings

BATCH = 50

app = Celery("sends")
app.conf.update(settings.celery_settings("sends"), cascade_auto_migrate=True)
cascades = Cascades(app)


@app.task(name="bench.plain", ignore_result=True)
def plain(order_id: int) -> int:
    return order_id


@cascades.step
@app.task(name="bench.decorated", ignore_result=True)
def decorated(order_id: int) -> int:
    return order_id


def batch(task: Any) -> tuple[float, float]:
    """Microseconds a call: of the clock, and of this process's CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(BATCH):
        task.delay(number)
    return (time.perf_counter() - wall) / BATCH * 1e6, (time.process_time() - cpu) / BATCH * 1e6


def main() -> None:
    rounds = int(sys.argv[1])
    for task in (plain, decorated):
        batch(task)  # connections, caches, tables
    turns = [(batch(plain), batch(decorated)) for _ in range(rounds)]
    names = ("wall", "cpu")
    report = {
        kind: {name: median(turn[place][at] for turn in turns) for at, name in enumerate(names)}
        for place, kind in enumerate(("plain", "decorated"))
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
