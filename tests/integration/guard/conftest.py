from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.guard.workers import Worker, running
from support import stacks
from support.stacks import Stack


@pytest.fixture(scope="package")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """For the whole package. The guard's runner has no store: the database is where Celery keeps its results."""
    with stacks.opened(request.param) as opened:
        yield opened


@pytest.fixture(scope="package")
def workers(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Worker]]:
    """All of them at once, since most of a test's time would be their start."""
    folder: Path = tmp_path_factory.mktemp("guard")
    results = stack.broker_url if stacks.parts(stack.name).broker == "redis" else f"db+{stack.database_url}"
    url = f"{stack.broker_url} {results}"
    with ExitStack() as entered:
        started = {
            "prefork": entered.enter_context(running(url, folder / "prefork", "prefork")),
            "plain": entered.enter_context(running(url, folder / "plain", "prefork", guarded=False)),
            "spawn": entered.enter_context(running(url, folder / "spawn", "prefork", start="spawn")),
            "solo": entered.enter_context(running(url, folder / "solo", "solo")),
            "threads": entered.enter_context(running(url, folder / "threads", "threads")),
        }
        yield started
        for worker in started.values():  # all at once here too
            worker.process.terminate()
