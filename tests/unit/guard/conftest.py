from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery.app import trace


@pytest.fixture(params=["client", "worker"], autouse=True)
def process(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test runs as in a client and as in a worker, which replaces `Task.__call__` when it starts."""
    if request.param == "worker":
        trace._install_stack_protection()
    yield request.param
    if request.param == "worker":
        trace.reset_worker_optimizations()
