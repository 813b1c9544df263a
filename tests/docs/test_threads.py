"""The page on threads: what it shows runs as shown, each command in a process of its own (R104)."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support.cluster import environment

PAGE = Path(__file__).parents[2] / "docs" / "threads.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for text in [*blocks("python"), *blocks("yaml")]:
        name = text.partition("\n")[0].removeprefix("# ").replace("by hand", "by_hand.py")
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_page_on_threads_runs_as_shown(folder: Path) -> None:
    """R104, R98, R91."""
    shown = [line for text in blocks("console") for line in text.splitlines() if line.startswith(("$ python", "$ cel"))]
    expected = "".join(text for text in blocks("console") if text.startswith("$ python"))
    given = ""
    for line in shown:
        program, *words = shlex.split(line.removeprefix("$ "))
        if program == "python":
            given += f"{line}\n{run(folder, sys.executable, *words)}"
        else:
            assert "Saved" not in run(folder, sys.executable, "-m", "celery", *words, "--local")
    assert given == expected


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
