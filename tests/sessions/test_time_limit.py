"""Celery's hard time limit ends a body by SIGTERM, as SystemExit: it is told from a body that exits by itself."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from celery_cascade.persistence.store import Store
from celery_cascade.tasks import runner
from celery_cascade.tasks.attempt import STEP_HEADER, StepRef
from celery_cascade.tasks.local_worker import local_worker
from sessions.kit import Kit


class Clock:
    """The process's clock, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + self.ahead))


@pytest.mark.parametrize(
    ("claim_takes", "body_takes", "kind"),
    [(0.0, 10.0, "timeout"), (6.0, 4.0, "timeout"), (0.0, 3.0, "crash"), (3.0, 3.0, "crash")],
)
def test_the_time_that_the_claim_took_counts_against_the_limit(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, claim_takes: float, body_takes: float, kind: str
) -> None:
    """A timeout that was held for a crash would poison the step after five; Celery's clock starts before the claim."""
    clock, claim = Clock(monkeypatch), Store.claim

    def slow_claim(*args: Any, **kwargs: Any) -> Any:
        clock.ahead += claim_takes
        return claim(*args, **kwargs)

    monkeypatch.setattr(Store, "claim", slow_claim)

    kit.start("a")
    (message,) = kit.messages()
    request = SimpleNamespace(task="add", timelimit=(10, None), is_eager=False)
    with local_worker(kit.runtime):
        attempt = kit.runtime.runner.claim(StepRef.from_header(message.headers[STEP_HEADER]), request)
        clock.ahead += body_takes
        kit.runtime.runner.abandon(attempt, SystemExit())
    assert kit.sql("SELECT kind FROM step_attempts") == [(kind,)]
