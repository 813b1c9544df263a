"""Projects for tests of the command line; kit.py has what they can do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.kit import Project


@pytest.fixture
def make_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Project]]:
    ours = [f"CELERY_CASCADE_{name}" for name in ("DATABASE_URL", "HOME", "SCHEMA")]
    for variable in ("CELERY_APP", *ours, "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made: list[Project] = []

    def make(**settings: Any) -> Project:
        made.append(Project(tmp_path, **settings))
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
