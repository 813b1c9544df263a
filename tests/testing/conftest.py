"""A shop whose store and broker cannot be reached: a crash test that touches one of them fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.kit import Shop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    for variable in ("CELERY_APP", "CELERY_CASCADE_DATABASE_URL", "CELERY_CASCADE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    made = Shop(tmp_path)
    yield made
    made.app.close()
