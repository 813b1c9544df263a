"""What `celery -A integration.guard.worker worker` runs; its settings come from the environment."""

from __future__ import annotations

import os

from integration.guard.proj import make_app

app, runner = make_app(
    os.environ["GUARD_TEST_URL"],
    os.environ["GUARD_TEST_QUEUE"],
    os.environ["GUARD_TEST_FOLDER"],
    start=os.environ["GUARD_TEST_START"],
    guarded=os.environ["GUARD_TEST_GUARDED"] == "1",
)
