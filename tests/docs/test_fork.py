"""What docs/fork.md shows works as shown."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.kit import Project

PAGE = (Path(__file__).parents[2] / "docs" / "fork.md").read_text(encoding="utf-8")
TASKS = """

@app.task(name="proj.multiply", shared=False)
def multiply(x, y):
    return x * y

@app.task(name="proj.add", shared=False)
def plus(x, y):
    return x + y

@app.task(name="proj.tell", shared=False)
def tell(value):
    return f"it is {value}"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


#: (command, what it prints)
SHOWN = [
    (command, output)
    for block in blocks("console")
    for command, output in re.findall(r"^\$ celery -A proj cascade (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE)
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path, task_always_eager=True)
    module = tmp_path / f"{made.name}.py"
    module.write_text(module.read_text() + TASKS)
    (definition,) = blocks("yaml")
    (tmp_path / "numbers.yaml").write_text(definition)
    assert made.run("run", "numbers.yaml", "-i", "number=5", "--session", "first").exit_code == 0
    yield made
    made.runtime.store.database.dispose()
    made.cascades.app.close()
    sys.modules.pop(made.name)


def edit(project: Project, before: str, after: str) -> None:
    file = project.folder / "numbers.yaml"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after, 1))


def test_every_command_of_the_page_prints_what_it_shows(project: Project) -> None:
    """R22, R132, D7."""
    assert len(SHOWN) == 8
    edit(project, "task: proj.add", "task: proj.multiply")
    assert project.run("run", "broken.yaml").exit_code == 1
    (project.folder / "go").touch()
    for command, shown in SHOWN:
        result = project.run(*shlex.split(command))
        assert result.exit_code == 0, (command, result.output)
        if shown:
            assert without_times(result.stdout) == without_times(shown), command
    assert project.json("show", "first")["session"]["output"] == "it is 20"


def without_times(text: str) -> list[str]:
    return [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "…", line) for line in text.splitlines()]


def test_every_piece_of_python_works(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """R22, R132."""
    forks, again = blocks("python")
    names = {"cascades": project.cascades}
    exec(again, names)
    edit(project, "task: proj.add", "task: proj.multiply")
    exec(forks, names)
    assert capsys.readouterr().out == "('double',)\nit is 100\n"
