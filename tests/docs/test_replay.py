"""What docs/replay.md shows works as shown."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.kit import Project

PAGE = (Path(__file__).parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(found)


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
    """R23."""
    session_id = project.ended()
    commands = re.findall(r"^\$ celery -A proj cascade (.*)$", block("console"), flags=re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        result = project.run(*(session_id if word == "3f2a91" else word for word in shlex.split(command)))
        assert result.exit_code == 0, (command, result.output)


def test_the_python_of_the_page_works(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """R17, R23."""
    session = project.cascades.session(project.ended())
    names: dict[str, Any] = {"session": session}
    exec(block("python"), names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == session.version + 2
    assert lines[-2:] == ["active ['one'] {}", "cascade_sessions_table {'n': 1, 'word': 'none'}"]
    assert [state["version"] for state in names["states"]] == list(range(1, session.version + 1))


def test_the_lines_of_the_timeline_are_those_of_the_program(project: Project) -> None:
    """Each kind of line of the page is one that replay prints."""
    session = project.cascades.session(project.started())
    session.suspend(actor="ann", reason="lunch")
    lines = project.run("replay", session.id).stdout.splitlines()
    shown = block("text").splitlines()
    form = re.compile(r"\d  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (.*)")
    assert all(form.fullmatch(line) for line in [*shown, *lines])
    words = [line.split("  ", 2)[2] for line in shown]
    assert [line.split("  ", 2)[2] for line in lines] == [words[0], *words[-2:]]
    assert re.fullmatch(r"step charge succeeded \(attempt 2, \d\.\d s\)", words[2])
