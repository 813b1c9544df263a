"""What docs/resume.md shows happens."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.kit import Project

PAGE = (Path(__file__).parents[2] / "docs" / "resume.md").read_text(encoding="utf-8")
NEGOTIATION = """\
cascade: negotiation
steps:
  - {id: offer, task: shop.echo, with: {value: 90}}
  - {id: answer, task: shop.fail, with: {message: nobody answers}}
"""


def scenes() -> list[list[tuple[str, list[str]]]]:
    """Of each block the commands, each with the lines that it prints."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, flags=re.DOTALL):
        parts = re.split(r"^\$ celery -A proj cascade ", block, flags=re.MULTILINE)[1:]
        found.append([(part.splitlines()[0], part.splitlines()[1:]) for part in parts])
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path)
    (tmp_path / "negotiation.yaml").write_text(NEGOTIATION)
    yield made
    made.runtime.store.database.dispose()
    made.cascades.app.close()
    sys.modules.pop(made.name)


def bare(line: str) -> str:
    """A line without what is of one moment."""
    line = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", line)
    line = re.sub(r"^\s*[\d:]{8}\s+", "", line)
    return re.sub(r"\s+", " ", re.sub(r"[\d.]+ s\b|on \S+, | on \S+$", "", line)).strip()


def test_the_first_scene_prints_what_the_page_prints(project: Project) -> None:
    """R59, R72: interrupt and resume."""
    (first, printed), (second, then) = scenes()[0]
    said = [bare(line) for line in project.run(*first.split()).stderr.splitlines()]
    assert {bare(line) for line in printed} <= set(said), said
    (project.folder / "go").touch()
    result = project.run(*second.split())
    assert result.exit_code == 0
    said = [bare(line) for line in result.stderr.splitlines()]
    assert {bare(line) for line in then} <= set(said), said


def test_the_second_scene_resumes_the_middle_one(project: Project) -> None:
    """R65, R80."""
    scene = scenes()[1]
    for number, (command, printed) in enumerate(scene):
        if "--resume" in command:
            (project.folder / "go").touch()
        result = project.run(*command.split())
        assert result.exit_code == (1 if number < 3 else 0), (command, result.output)
        assert set(printed) <= set(result.stderr.splitlines()), (command, result.stderr)
    status = {one: project.cascades.session(one).status for one in "ABC"}
    assert status == {"A": "failed", "B": "completed", "C": "completed"}


def test_the_edited_file_goes_on_in_a_fork(project: Project) -> None:
    """D7."""
    ((command, _),) = scenes()[2]
    session_id = project.ended("negotiation.yaml")
    (project.folder / "negotiation.yaml").write_text(
        NEGOTIATION.replace("shop.fail", "shop.echo").replace("message", "value")
    )
    result = project.run(*command.split())
    assert (result.exit_code, result.stdout) == (0, '"nobody answers"\n'), result.stderr
    assert project.cascades.session(session_id).status == "failed"


def test_the_python_of_the_page_works(project: Project) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    session_id = project.ended("negotiation.yaml")
    names = {"cascades": project.cascades}
    exec(code, names)
    assert names["session"] == project.cascades.session(session_id)
    assert project.cascades.session(session_id).status == "active"
