from __future__ import annotations

from collections.abc import Iterator

import pytest

from celery_cascade.persistence.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database on each dialect."""
    database = Database(database_url)
    yield database
    database.dispose()
