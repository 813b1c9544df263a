from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.guard.workers import Worker, running
from support import services


@pytest.fixture(scope="package")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Worker]]:
    """All of them at once, since most of a test's time would be their start."""
    folder: Path = tmp_path_factory.mktemp("guard")
    with ExitStack() as stack:
        url = stack.enter_context(services.redis_url())
        started = {
            "prefork": stack.enter_context(running(url, folder / "prefork", "prefork")),
            "plain": stack.enter_context(running(url, folder / "plain", "prefork", guarded=False)),
            "spawn": stack.enter_context(running(url, folder / "spawn", "prefork", start="spawn")),
            "solo": stack.enter_context(running(url, folder / "solo", "solo")),
            "threads": stack.enter_context(running(url, folder / "threads", "threads")),
        }
        yield started
        for worker in started.values():  # all at once here too
            worker.process.terminate()
