"""Celery alone: `celery -A measure.bare worker`."""

from __future__ import annotations

from typing import Any

from celery import Celery, chain

from measure import settings, workload

app = Celery("bare")
app.conf.update(settings.celery_settings("bare"))


@app.task(name="bench.step")
def step(given: dict[str, Any]) -> dict[str, Any]:
    return workload.body(given)


def submit(number: int, steps: int) -> Any:
    """Send a chain; its result when it is asked for."""
    return chain(step.s(workload.payload(number)), *(step.s() for _ in range(steps - 1))).apply_async()
