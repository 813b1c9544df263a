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


def test_the_examples_of_what_is_seen_and_done_work_as_they_stand(make_project: Any) -> None:
    """R150: in a project that has what they name."""
    project = make_project(task_always_eager=True)
    (project.folder / "order.yaml").write_text(
        "cascade: order\ninputs: {order_id: integer, email: {type: string, default: ''}}\n"
        'steps:\n  - {id: a, task: shop.echo, with: {value: "{{ inputs.order_id }}"}}\n'
    )
    (project.folder / "refund.yaml").write_text("cascade: refund\nsteps:\n  - {id: a, task: shop.echo}\n")
    started = project.ended("broken.yaml")
    ran = 0
    for args, line in examples():
        if args[0] not in ("run", "resume", "watch", "ls", "show", "definition", "validate", "prune", "doctor"):
            continue
        meant = in_doubt(project) if {"--done", "--again"} & set(args) else started
        given = [meant if word == "3f2a91" else word for word in args]
        result = project.run(*given)
        assert result.exit_code in (0, 1 if "@last-failed" in given else 0), (line, result.output)
        ran += 1
    assert ran >= 12


def in_doubt(project: Any) -> str:
    """A session whose step `charge` waits for an answer."""
    (project.folder / "doubt.yaml").write_text("cascade: doubt\nsteps:\n  - {id: charge, task: shop.echo}\n")
    project.runtime.app.conf.task_always_eager = False
    session_id: str = project.run("run", "doubt.yaml", "--detach").stdout.strip()
    project.lose(session_id, "charge")
    project.runtime.app.conf.task_always_eager = True
    return session_id


def test_help_names_every_verb_and_exit_code() -> None:
    result = CliRunner().invoke(cascade, ["--help"])
    assert all(f"  {verb} " in result.stdout for verb in VERBS)
    assert "69 broker or database unreachable" in result.stdout


@pytest.mark.parametrize(
    "path", [path for path in leaves(cascade) if path[0] not in ("demo", "validate", "schema", "init", "completion")]
)
def test_every_verb_that_needs_an_app_says_how_to_name_it(project: Project, path: tuple[str, ...]) -> None:
    """Celery itself would take an app called "default" and say nothing."""
    arguments = {"run": ["order.yaml"], "crashtest": ["order.yaml"], "migrate": []}
    one = ("show", "watch", "resume", "cancel", "definition", "rm", "keep")
    needs = arguments.get(path[0], ["x"] if path[0] in one else [])
    if path == ("migrate",):
        return
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
