"""Grounds for a test: databases and brokers of one kind, as many as runs are done at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crash import grounds
from crash.grounds import BROKERS, DATABASES, Grounds
from crash.plans import AT_ONCE
from support.services import SERVICES

PARAMS = [
    pytest.param(
        database, marks=[getattr(pytest.mark, name) for name in (database, BROKERS[database]) if name in SERVICES]
    )
    for database in DATABASES
]


@pytest.fixture(scope="session", params=PARAMS)
def on(request: pytest.FixtureRequest) -> Iterator[tuple[str, Grounds]]:
    """Each database with its broker: made once, a server's tables take longer to make than most runs."""
    with grounds.opened(request.param, AT_ONCE) as opened:
        yield request.param, opened
