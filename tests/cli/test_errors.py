"""What is said when something is wrong with the call itself, and how it looks."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from celery_cascade.cli import cascade
from celery_cascade.cli.group import VERBS
from cli.kit import Project, commands_in


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every verb, those of groups included."""
    if not isinstance(command, click.Group):
        return [path]
    ctx = click.Context(command)
    names = command.list_commands(ctx)
    return [path] * bool(path) + [
        found for name in names for found in leaves(command.get_command(ctx, name), (*path, name))
    ]


@pytest.mark.parametrize("path", leaves(cascade))
def test_every_verb_has_help_with_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cascade, [*path, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    example = result.stdout.partition("Example")[2]
    assert f"cascade {' '.join(path)}" in example


def examples() -> list[tuple[tuple[str, ...], str]]:
    """The arguments of every example of every help text."""
    found = []
    for path in leaves(cascade):
        command: Any = cascade
        for word in path:
            command = command.get_command(click.Context(command), word)
        for line in getattr(command, "example", ()):
            called = re.search(r"\bcascade (?P<words>[^>|]*?)\)?\s*(?:[>|].*)?$", line)
            assert called, line
            found.append((tuple(shlex.split(called["words"])), line))
    return found


@pytest.mark.parametrize(("args", "line"), examples(), ids=[line for _, line in examples()])
def test_every_example_is_a_call_that_the_verb_takes(args: tuple[str, ...], line: str) -> None:
    """R150: no option of it is missing or misspelt."""
    command: Any = cascade
    words = list(args)
    while isinstance(command, click.Group) and words:
        command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None, line
    command.make_context(args[0], words)


def test_help_names_every_verb_and_exit_code() -> None:
    result = CliRunner().invoke(cascade, ["--help"])
    assert all(f"  {verb} " in result.stdout for verb in VERBS)
    assert "69 broker or database unreachable" in result.stdout


@pytest.mark.parametrize(
    "path", [path for path in leaves(cascade) if path[0] not in ("demo", "validate", "schema", "init", "completion")]
)
def test_every_verb_that_needs_an_app_says_how_to_name_it(project: Project, path: tuple[str, ...]) -> None:
    """Celery itself would take an app called "default" and say nothing."""
    if path in (("migrate",), ("threads",)):
        return
    arguments = {"run": ["order.yaml"], "crashtest": ["order.yaml"], "diff": ["x", "y"], "save": ["x", "y"]}
    without = ("ls", "prune", "doctor", "migrate")
    needs = arguments.get(path[-1], [] if path[0] in without or path == ("threads", "ls") else ["x"])
    result = project.run(*path, *needs, app=False)
    assert result.exit_code == 2
    assert "celery -A your_module cascade" in result.stderr
    assert "CELERY_APP" in result.stderr


def test_the_app_may_come_from_the_environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then hints need not name it, and do not."""
    monkeypatch.setenv("CELERY_APP", project.name)
    result = project.run("show", "nothere", app=False)
    assert result.exit_code == 3
    assert "List them with: cascade ls\n" in result.stderr
    assert project.run("ls", app=False).exit_code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No module named 'their_app'"),
        ("import nothing_like_this", "No module named 'nothing_like_this'"),
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "their_app"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_told_without_a_traceback(
    project: Project, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    if text is not None:
        (project.folder / "their_app.py").write_text(text)
    monkeypatch.delitem(__import__("sys").modules, "their_app", raising=False)
    result = CliRunner().invoke(cascade, ["-A", "their_app", "ls"])
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_an_app_without_cascades_is_told_what_to_add(project: Project) -> None:
    name = project.name + "_bare"
    (project.folder / f"{name}.py").write_text("from celery import Celery\napp = Celery('bare')\n")
    result = CliRunner().invoke(cascade, ["-A", name, "ls"])
    assert result.exit_code == 2
    assert "cascades = Cascades(app)" in result.stderr


def test_a_wrong_verb_gets_the_nearest_right_word(project: Project) -> None:
    result = project.run("shwo")
    assert result.exit_code == 2
    assert "Did you mean 'show'?" in result.stderr


def test_an_app_behind_the_verb_is_told_where_it_belongs(project: Project) -> None:
    result = project.run("ls", "-A", "proj", app=False)
    assert result.exit_code == 2
    assert "stands before the verb" in result.stderr


def test_a_traceback_is_there_for_those_who_ask(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in project.run("show", "nope").stderr
    monkeypatch.setenv("CELERY_CASCADE_DEBUG", "1")
    result = project.run("show", "nope")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr


def test_errors_are_words_on_stderr_and_in_json_an_object_on_stdout(project: Project) -> None:
    result = project.run("cancel", "nope", "--json")
    assert result.stderr.startswith("Error: Session 'nope' not found.")
    found = json.loads(result.stdout)
    assert set(found) == {"schema", "error"}
    assert commands_in(found["error"]["hint"]) == [["ls"]]


@pytest.mark.parametrize("wrong", [("--since", "foo"), ("--casade", "x"), ("--limit", "0")])
def test_a_command_line_that_cannot_be_read_is_told_in_json_too(project: Project, wrong: tuple[str, ...]) -> None:
    """R150: errors, too."""
    for words in ([*wrong, "--json"], ["--json", *wrong]):
        result = project.run("ls", *words)
        assert result.exit_code == 2
        error = json.loads(result.stdout)["error"]
        assert (error["type"], wrong[0] in error["message"]) == ("UsageError", True)
        assert error["hint"].endswith("ls --help")
        assert "Traceback" not in result.stderr
    assert not project.run("ls", *wrong).stdout


def test_the_demo_is_called_with_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import celery_cascade.demo

    seen = {}

    def run_demo(folder, *, echo, keep=True):
        echo("a word")
        seen.update(folder=folder, keep=keep)
        return 1

    monkeypatch.setattr(celery_cascade.demo, "run_demo", run_demo)
    result = CliRunner().invoke(cascade, ["demo", str(tmp_path / "x"), "--clean"])
    assert (result.exit_code, result.stdout) == (1, "a word\n")
    assert seen == {"folder": tmp_path / "x", "keep": False}
