"""What docs/steering.md shows works as shown."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_cascade.sessions.acts import OPERATIONS
from celery_cascade.sessions.halting import POSSIBLE
from celery_cascade.states import Halt
from cli.examples import World, build, living
from support.stores import migrated

PAGE = (Path(__file__).parents[2] / "docs" / "steering.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(console|python)\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    template = tmp_path_factory.mktemp("template") / "store.sqlite"
    migrated(f"sqlite:///{template}")
    folder = tmp_path_factory.mktemp("world")
    build(folder, template)
    return folder


@pytest.fixture
def world(built: Path, tmp_path: Path) -> Iterator[World]:
    shutil.copytree(built, tmp_path / "here", ignore=shutil.ignore_patterns("__pycache__"))
    found = World(tmp_path / "here")
    with living(found):
        yield found


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "console"])
def test_the_commands_work_one_after_the_other(world: World, text: str) -> None:
    """R129, R135, R21."""
    for line in re.findall(r"^\$ (.*)$", text, flags=re.MULTILINE):
        result = world.example(line)
        assert result.exit_code == (1 if " diff " in line else 0), (line, result.output)
        assert result.exception is None or isinstance(result.exception, SystemExit)


def test_the_python_works(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"cascades": world.cascades, "session_id": world.session("3f2a91")}
    names["other_id"] = world.session("9c41d0")
    one, many, beside = [text for kind, text in BLOCKS if kind == "python"]
    for text in (beside, many, one):
        exec(text, names)
    told = capsys.readouterr().out
    assert re.search(r"^outputs\.charge", told, re.MULTILINE)


def test_the_table_says_from_which_states_each_is_possible() -> None:
    """R135."""
    rows = dict(re.findall(r"^\| (\w+) \| ([\w, ]+) \|", PAGE, flags=re.MULTILINE))
    for verb, halt in (("suspend", Halt.SUSPENDED), ("cancel", Halt.CANCELLED)):
        assert set(rows[verb].split(", ")) == POSSIBLE[halt]
    assert set(rows["resume"].split(", ")) == set(OPERATIONS["resume"].usual)


def test_the_page_says_what_a_filter_without_a_status_means() -> None:
    text = " ".join(PAGE.split())
    for verb, name in (("cancel", "cancel"), ("suspend", "suspend"), ("resume", "resume"), ("rm", "delete")):
        words = [status.value for status in OPERATIONS[name].usual]
        *first, last = words
        assert f"`{verb}` what is {', '.join(first)}{' or ' if first else ''}{last}" in text
