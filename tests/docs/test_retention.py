"""What docs/retention.md shows works as shown."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_cascade import Retention
from celery_cascade.config import CascadeConfig
from cli.kit import Project

PAGE = (Path(__file__).parents[2] / "docs" / "retention.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


COMMANDS = re.findall(r"^\$ celery -A proj cascade (.*)$", "\n".join(blocks("console")), flags=re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path)
    yield made
    made.runtime.store.database.dispose()
    made.cascades.app.close()
    sys.modules.pop(made.name)


def test_every_command_of_the_page_works(project: Project) -> None:
    """D9, D10."""
    assert len(COMMANDS) > 8
    session_id = project.ended()
    for command in COMMANDS:
        arguments = [session_id if word == "3f2a91" else word for word in shlex.split(command)]
        result = project.run(*arguments)
        assert result.exit_code == 0, (command, result.output)
    assert project.run("show", session_id).exit_code == 3, "the page's rm deleted it"


def test_every_piece_of_python_works(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    settings, schedule, prune, keep, off = blocks("python")
    names: dict[str, Any] = {"app": Celery("proj", set_as_current=False), "cascades": project.cascades}
    names["session"] = project.cascades.session(project.ended())
    for piece in (settings, schedule, prune, keep):
        exec(piece, names)
    found = CascadeConfig.from_mapping(names["app"].conf, {}).retention
    assert isinstance(found, Retention)
    assert (found.completed.days, found.failed, found.keep_last) == (2, None, 100)
    entry = names["app"].conf.beat_schedule["prune-reports"]
    assert project.cascades.app.tasks[entry["task"]](**entry["kwargs"])["deleted"] == 0
    assert names["session"].id in capsys.readouterr().out
    exec(off, names)
    assert CascadeConfig.from_mapping(names["app"].conf, {}).retention is None


def test_the_page_names_the_periods_that_the_settings_have() -> None:
    usual = Retention()
    assert usual.completed == usual.cancelled == usual.expired
    assert f"| completed, cancelled, expired | {usual.completed.days} days" in PAGE
    assert f"| failed | {usual.failed.days} days" in PAGE
    assert f"newest {usual.keep_last} finished" in PAGE
