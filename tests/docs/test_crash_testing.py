"""The page on crash-testing shows what the command prints, and its three lines are those that are tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from celery_cascade.testing.crash_report import HEADINGS
from celery_cascade.testing.crashes import DEFAULT_POINTS, IN_BODY
from support.cluster import environment

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "crash-testing.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "crash_test"


def timeless(text: str) -> list[list[str]]:
    """The words of each line; spans of time are never twice the same."""
    return [re.sub(r"\d+\.\d+ s", "TIME", line).split() for line in text.strip().splitlines()]


def test_the_example_is_caught_as_the_page_shows_it(tmp_path: Path) -> None:
    """The command of the page, run where the example lies; its mail is sent twice, and exit 1 says so."""
    block = re.search(r"```console\n\$ celery (.*?)\n(.*?)```", PAGE, re.DOTALL)
    assert block
    done = subprocess.run(
        [sys.executable, "-m", "celery", *block[1].split()],
        cwd=EXAMPLE,
        env={**environment(), "ORDERS_BOOK": str(tmp_path / "book.json"), "CELERY_CASCADE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert timeless(done.stdout) == timeless(block[2])
    assert [path.name for path in tmp_path.iterdir()] == ["book.json"]  # no store, no broker


def test_every_column_is_explained() -> None:
    assert re.findall(r"^\| ([A-Z][A-Z ()]+) \|", PAGE, re.MULTILINE) == list(HEADINGS)


def test_the_three_lines_are_those_that_a_project_of_its_own_runs() -> None:
    lines = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert lines
    assert lines[1] in (ROOT / "tests" / "testing" / "test_fixture.py").read_text(encoding="utf-8")


def test_the_points_of_the_default_and_the_crashes_inside_are_told() -> None:
    words = " ".join(PAGE.split())
    steps = [point.value for point in DEFAULT_POINTS if not point.startswith("end")]
    assert f"{', '.join(steps)}, and the session's end" in words
    assert IN_BODY == 3
    assert "three crashes by default" in words
