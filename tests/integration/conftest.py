"""The stacks that every test of a whole system runs on: the three of `support.stacks.DEFAULT`, or `--stack`'s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import stacks
from support.cluster import Project, Stack, projects


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for a `stack` runs on each; one that is marked `broker_server` on those that have one."""
    if "stack" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--stack") or stacks.DEFAULT
        with_server = metafunc.definition.get_closest_marker("broker_server") is not None
        metafunc.parametrize(
            "stack",
            stacks.parameters(chosen, with_server=with_server),
            indirect=True,
            scope="package" if "workers" in metafunc.fixturenames else None,
        )


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with stacks.opened(request.param) as opened:
        yield opened


@pytest.fixture
def project(tmp_path: Path, stack: Stack) -> Iterator[Callable[..., Project]]:
    yield from projects(tmp_path, stack)
