"""The page on decorated tasks: what it shows runs as shown."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import LocalWorker, environment

PAGE = Path(__file__).parents[2] / "docs" / "sends.md"
pytestmark = pytest.mark.integration


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[LocalWorker]:
    (tmp_path / "shop.py").write_text(block("# shop.py"))
    process = LocalWorker(tmp_path, "shop", ("-P", "threads"), app="shop")
    process.ready()
    yield process
    process.teardown()


def block(beginning: str) -> str:
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return next(text for text in found if text.startswith(beginning))


def test_the_page_on_decorated_tasks_runs_as_shown(worker: LocalWorker) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block("# anywhere else")],
        cwd=worker.folder, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith("{'order': 8, 'paid': True}")
    assert second == "label 7 + parcel 7"
