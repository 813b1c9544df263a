"""The child in which a crash test runs its trials."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from celery import Celery

from celery_cascade.testing.processes import run_apart


@pytest.mark.redis
def test_a_question_to_the_workers_before_it_holds_up_no_trial(redis_url: str, tmp_path: Path) -> None:
    """R36. `inspect()` leaves a read behind on its connection to Redis, and kombu has every child wait for its end."""
    app = Celery("asks", broker=redis_url, set_as_current=False)
    app.control.inspect(timeout=0.1).ping()
    time.sleep(1.2)  # the read is answered after a second, and the first child gets it
    began = time.monotonic()
    codes = [run_apart(lambda: None, tmp_path / "log", timeout=20) for _ in range(3)]
    assert codes == [0, 0, 0]
    assert time.monotonic() - began < 15
    app.close()


def test_a_trial_may_have_an_alarm_of_its_own(tmp_path: Path) -> None:
    """What breaks off the cleaning before it is over then."""

    def work() -> None:
        time.sleep(0.7)
        os.write(1, b"done")

    assert run_apart(work, tmp_path / "log", timeout=20) == 0
    assert (tmp_path / "log").read_text() == "done"
