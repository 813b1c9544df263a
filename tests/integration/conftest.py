"""The stacks that every test of a whole system runs on: the embedded default, and Redis with PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.cluster import Project, Stack, projects


@pytest.fixture(
    params=[
        pytest.param("embedded"),
        pytest.param("redis-postgresql", marks=[pytest.mark.redis, pytest.mark.postgresql]),
    ]
)
def stack(request: pytest.FixtureRequest) -> Stack:
    if request.param == "embedded":
        return Stack("embedded")
    return Stack(
        "redis-postgresql",
        broker_url=request.getfixturevalue("redis_url"),
        database_url=request.getfixturevalue("postgresql_url"),
    )


@pytest.fixture
def project(tmp_path: Path, stack: Stack) -> Iterator[Callable[..., Project]]:
    yield from projects(tmp_path, stack)
