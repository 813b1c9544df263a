"""Projects for tests of the command line; kit.py has what they can do."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli.kit import Project
from support.stores import migrated


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded store without sessions: to make its tables takes longer than most verbs."""
    return migrated(tmp_path_factory.mktemp("template") / "store.sqlite")


def put_store(template: Path, folder: Path) -> None:
    """The store that the first verb would make, with an id of its own."""
    path = folder / ".cascade" / "store.sqlite"
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile(template, path)
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE cascade_meta SET value = ? WHERE name = 'store_id'", [uuid.uuid4().hex])


@pytest.fixture
def make_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: Path) -> Iterator[Callable[..., Project]]:
    """Makes projects; one whose settings name no store has its embedded store already, unless it is to be `fresh`."""
    ours = [f"CELERY_CASCADE_{name}" for name in ("DATABASE_URL", "HOME", "SCHEMA")]
    for variable in ("CELERY_APP", *ours, "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made: list[Project] = []

    def make(*, fresh: bool = False, **settings: Any) -> Project:
        made.append(Project(tmp_path, **settings))
        if not fresh and not settings.keys() & {"cascade_database_url", "cascade_home"}:
            put_store(template, tmp_path)
        return made[-1]

    yield make
    for project in made:
        module = sys.modules.pop(project.name, None)
        if module is not None:
            store = module.cascades.runtime._store
            if store is not None:
                store.database.dispose()
            module.app.close()


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project()
