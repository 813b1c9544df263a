"""Each example that `--help` and docs/cli.md show is run (R143). How to add one: see examples.py."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from cli.examples import ROOT, SCENES, SESSIONS, World, a_worker, build, documented, living, scene_of, taken_apart

EXAMPLES = documented()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("CELERY_APP", "CELERY_CASCADE_DATABASE_URL", "CELERY_CASCADE_HOME", "CELERY_CASCADE_SCHEMA"):
            patch.delenv(variable, raising=False)
        folder = tmp_path_factory.mktemp("world")
        build(folder, template)
    return folder


@pytest.fixture
def world(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for variable in ("CELERY_APP", "CELERY_CASCADE_DATABASE_URL", "CELERY_CASCADE_HOME", "CELERY_CASCADE_SCHEMA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHELL", "/bin/bash")
    shutil.copytree(built, tmp_path / "here", ignore=shutil.ignore_patterns("__pycache__"))
    found = World(tmp_path / "here")
    with living(found):
        yield found


@pytest.mark.parametrize("line", [line for _, line in EXAMPLES])
def test_the_example_works(world: World, line: str) -> None:
    """R143."""
    scene = scene_of(line)
    if scene.elsewhere is not None:
        name = taken_apart(line)[0][0]
        assert f'"{name}"' in (ROOT / scene.elsewhere).read_text(encoding="utf-8")
        return
    if scene.prepare is not None:
        scene.prepare(world)
    with a_worker(world) if scene.worker else nullcontext():
        result = world.example(line, *scene.more)
    assert result.exit_code in scene.code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output


def scenes_of(page: str) -> list[list[str]]:
    """Of each console block of a page the command lines."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [[line.removeprefix("$ ") for line in block.splitlines()] for block in blocks]


@pytest.mark.parametrize("lines", scenes_of("sessions.md"), ids=lambda lines: lines[0].split()[4])
def test_the_scenes_of_the_guide_work(world: World, lines: list[str]) -> None:
    """R59, R98, R100, R132: docs/sessions.md, a block at a time."""
    with a_worker(world):
        for line in lines:
            result = world.example(line)
            assert result.exit_code == 0, (line, result.output)


def test_the_world_has_the_sessions_that_it_says(world: World) -> None:
    statuses = {"3f2a91": "active", "7d1e02": "suspended", "e07a55": "failed", "9c41d0": "completed"}
    assert statuses.keys() == SESSIONS.keys()
    for prefix, status in statuses.items():
        assert world.json("show", prefix)["session"]["status"] == status
    assert world.json("show", "@last")["session"]["session_id"].startswith("9c41d0")
    assert world.json("show", "@last-failed")["session"]["session_id"].startswith("e07a55")


def test_every_scene_is_of_an_example(world: World) -> None:
    used = {id(scene_of(line)) for _, line in EXAMPLES}
    assert {begins for begins, scene in SCENES.items() if id(scene) not in used} == set()


def test_lines_are_understood_as_a_shell_does() -> None:
    assert taken_apart("id=$(celery -A proj cascade run x.yaml)") == (["-A", "proj", "run", "x.yaml"], None)
    assert taken_apart("cascade schema > a.json") == (["schema"], "a.json")
    assert taken_apart("cascade ls --json | jq .") == (["ls", "--json"], None)
