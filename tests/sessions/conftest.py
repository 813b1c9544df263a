"""Projects on a store: SQLite for most tests, all three databases where the store matters."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessions.kit import Kit
from support import services
from support.stores import migrated

DIALECTS = [
    pytest.param("sqlite"),
    pytest.param("postgresql", marks=pytest.mark.postgresql),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store without sessions, migrated once."""
    path = tmp_path_factory.mktemp("template") / "store.sqlite"
    migrated(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_store(template: Path, tmp_path: Path) -> str:
    path = tmp_path / "store.sqlite"
    shutil.copyfile(template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session", params=DIALECTS)
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database of each dialect, one for all tests: they tell their sessions apart by id."""
    if request.param == "sqlite":
        yield migrated(f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.sqlite'}")
        return
    fresh = services.fresh_postgresql_url if request.param == "postgresql" else services.fresh_mariadb_url
    with fresh() as url:
        yield migrated(url)


@pytest.fixture
def make_kit(tmp_path: Path) -> Iterator[Callable[..., Kit]]:
    made: list[Kit] = []

    def make(url: str | None, **settings: Any) -> Kit:
        made.append(Kit(url, tmp_path, **settings))
        return made[-1]

    yield make
    for kit in made:
        close(kit)


def close(kit: Kit) -> None:
    """Give the connections back, if there ever were any."""
    if "config" in kit.runtime.__dict__ and kit.runtime._store is not None:
        kit.store.database.dispose()
    kit.app.close()


@pytest.fixture
def kit(make_kit: Callable[..., Kit], sqlite_store: str) -> Kit:
    """A project on SQLite."""
    return make_kit(sqlite_store)


@pytest.fixture
def any_kit(make_kit: Callable[..., Kit], store_url: str) -> Kit:
    """A project on each of the databases."""
    return make_kit(store_url)
