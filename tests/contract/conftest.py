"""The same tests over SQLite (a file), PostgreSQL and MariaDB: one database each a run, emptied before every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url, text

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Base
from contract.kit import Kit
from support import services

DIALECTS = [
    pytest.param("sqlite"),
    pytest.param("postgresql", marks=pytest.mark.postgresql),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
]


@pytest.fixture(scope="session", params=DIALECTS)
def contract_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of one dialect with our tables in it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('contract') / 'store.sqlite'}"
        _make_tables(url)
        yield url
        return
    fresh = services.fresh_postgresql_url if request.param == "postgresql" else services.fresh_mariadb_url
    with fresh() as url:
        _make_tables(url)
        if request.param == "postgresql":
            _hurry(url)
        yield url


def _hurry(url: str) -> None:
    """No test here pulls the plug, so none has to wait for the disk."""
    database = Database(url, null_pool=True)
    with database.autocommit() as conn:
        conn.execute(text(f'ALTER DATABASE "{make_url(url).database}" SET synchronous_commit = off')).close()
    database.dispose()


def _make_tables(url: str) -> None:
    database = Database(url, null_pool=True)
    Base.metadata.create_all(database.engine)
    database.dispose()


@pytest.fixture(scope="session")
def contract_database(contract_url: str) -> Iterator[Database]:
    database = Database(contract_url)
    yield database
    database.dispose()


@pytest.fixture
def kit(contract_database: Database) -> Kit:
    return Kit(contract_database)
