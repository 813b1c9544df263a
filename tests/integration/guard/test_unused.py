"""R87: an app that has the plugin and uses no cascade is the app it was."""

from __future__ import annotations

import pytest
from celery import chain, chord, group

pytestmark = [pytest.mark.integration, pytest.mark.broker_server]


def outcomes(worker) -> dict[str, object]:
    """Canvas, retries, replacement and failure; sent all at once, then collected."""
    app = worker.app
    add, total, patient, replacing, fails = (
        app.tasks[name] for name in ("add", "total", "patient", "replacing", "fails")
    )
    sent = {
        "call": add.delay(1, 2),
        "chain": chain(add.s(1, 1), add.s(2), add.s(3)).delay(),
        "group": group(add.s(1, number) for number in range(5)).delay(),
        "chord": chord([add.s(1, number) for number in range(5)], total.s()).delay(),
        "chord in a chain": chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s(), add.s(100)).delay(),
        "chord of chains": chord([add.s(1, 1) | add.s(1), add.s(2, 2) | add.s(2)], total.s()).delay(),
        "retry": patient.delay(1),
        "replace": replacing.delay(1),
        "replace in a chord": chord([replacing.s(1), replacing.s(2)], total.s()).delay(),
        "shared and annotated": group(app.signature("shared", [1]), app.signature("annotated")).delay(),
        "failure": fails.delay(),
        "failure in a chain": chain(add.s(1, 1), fails.s(), add.s(1)).delay(),
        "failure in a chord": chord([add.s(1, 1), fails.s()], total.s()).delay(),
    }
    return {name: (result.get(timeout=20, propagate=False), result.successful()) for name, result in sent.items()}


def test_canvas_retries_and_failures_end_as_they_do_without_the_plugin(workers):
    """R87: two workers, alike but for the guard."""
    guarded, plain = (
        {name: (str(value), good) for name, (value, good) in outcomes(workers[which]).items()}
        for which in ("prefork", "plain")
    )
    unstable = "failure in a chord"  # its message has a task id in it
    assert guarded.pop(unstable)[1] is plain.pop(unstable)[1] is False
    assert guarded == plain
    assert guarded["chord"] == ("15", True)
    assert guarded["retry"] == ("[3, 2]", True)
