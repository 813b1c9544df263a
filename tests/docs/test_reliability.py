"""The page of reliability says what was counted, and nothing that was not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from celery_cascade.crash_points import CrashPoint
from docs import reliability_page as made

PAGE = made.PAGE.read_text(encoding="utf-8")


def test_the_page_shows_the_last_recorded_runs() -> None:
    """A number on the page that no run has counted, or an older one, turns this red."""
    assert made.page(PAGE) == PAGE, "write it anew with: scripts/docs"


def test_a_changed_record_changes_the_page(tmp_path: Path) -> None:
    for path in made.RECORDS.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    assert made.page(PAGE, tmp_path) == PAGE
    record = json.loads((tmp_path / "mutations.json").read_text(encoding="utf-8"))
    record["mutations"] += 1
    (tmp_path / "mutations.json").write_text(json.dumps(record), encoding="utf-8")
    assert made.page(PAGE, tmp_path) != PAGE


RECORDED = [path.stem for path in sorted(made.RECORDS.glob("*.json")) if path.stem != "mutations"]


@pytest.mark.parametrize("name", RECORDED)
def test_no_recorded_run_has_lost_anything(name: str) -> None:
    record = json.loads((made.RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    assert record
    for run in record.values():
        assert (run["lost"], run["stuck"], made._repeated(run)) == (0, 0, 0)


def test_every_recorded_mutation_was_caught() -> None:
    record = json.loads((made.RECORDS / "mutations.json").read_text(encoding="utf-8"))
    assert record["survived"] == []
    assert record["mutations"] == len(record["caught"]) >= 10


def test_every_crash_point_is_on_the_page() -> None:
    listed = PAGE.partition("<!-- points:")[2]
    assert re.findall(r"^\| `(\w+)` \|", listed, flags=re.MULTILINE) == [point.value for point in CrashPoint]


def test_the_commands_of_the_page_are_there() -> None:
    root = made.DOCS.parent
    for name in set(re.findall(r"`(scripts/\w+)", PAGE)):
        assert (root / name).exists(), name
