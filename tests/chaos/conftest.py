"""The chaos's application without the chaos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.chaos.ground import SETTINGS, ground
from support.chaos.quiet import Quiet


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Callable[..., Quiet]]:
    """Makes a stack on servers of its own: `quiet("redis-postgresql", "prefork", "threads")`."""
    with ExitStack() as opened:

        def make(stack: str, *workers: str) -> Quiet:
            made = Quiet(opened.enter_context(ground(stack, tmp_path / "project", SETTINGS)), workers)
            opened.callback(made.close)
            return made

        yield make
