"""What the README shows works as shown."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import LocalWorker, environment

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.integration


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def python(beginning: str) -> str:
    return next(block for block in blocks("python") if block.startswith(beginning))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(python("# shop.py") + python("# at the end of shop.py"))
    (tmp_path / "order.yaml").write_text(next(block for block in blocks("yaml") if block.startswith("# order.yaml")))
    return tmp_path


class ShopWorker(LocalWorker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "shop", ("-P", "threads"), app="shop")


@pytest.fixture
def worker(shop: Path) -> Iterator[LocalWorker]:
    process = ShopWorker(shop)
    process.ready()
    yield process
    process.teardown()


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


OUTPUT = "parcel with 2 things, label 7: on its way"


def test_the_first_example_runs_from_python(shop: Path, worker: LocalWorker) -> None:
    assert run(shop, "-c", python("# anywhere else")).strip() == OUTPUT


def test_decorated_tasks_and_canvases_run_as_shown(shop: Path, worker: LocalWorker) -> None:
    """R151."""
    assert run(shop, "-c", python("# somewhere else")).splitlines() == ["7", "label 7 and invoice 7"]


def test_the_commands_of_the_first_screen_run(shop: Path, worker: LocalWorker) -> None:
    commands = re.findall(r"^\$ celery -A shop (cascade .*?)(?:  +#.*)?$", "\n".join(blocks("console")), flags=re.M)
    first = [command.split() for command in commands if command.split()[1] in ("run", "ls", "show")][:3]
    assert [command[1] for command in first] == ["run", "ls", "show"]
    told = [run(shop, "-m", "celery", "-A", "shop", *command) for command in first]
    assert OUTPUT in told[0]
    assert "completed" in told[1]
    assert "charge" in told[2]


def test_the_run_without_worker_or_broker_runs(shop: Path) -> None:
    """R13."""
    code = next(block for block in blocks("python") if "run_cascade" in block)
    assert run(shop, "-c", code).strip() == OUTPUT
