"""What every verb takes: `-q`, `--utc`, `--ascii`, NO_COLOR; and what every verb's help has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from celery_cascade.cli import cascade, manner
from celery_cascade.cli.group import VERBS
from cli.kit import Project


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every verb, and the verbs of verbs."""
    ctx = click.Context(cascade)
    waiting = [(verb, cascade.get_command(ctx, verb)) for verb in VERBS]
    while waiting:
        name, command = waiting.pop(0)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            waiting += [(f"{name} {word}", command.commands[word]) for word in command.commands]


ALL = dict(commands())


@pytest.mark.parametrize("name", ALL)
def test_every_verb_takes_the_shared_options(project: Project, name: str) -> None:
    result = project.run(*name.split(), "-q", "--utc", "--ascii", "--help")
    assert result.exit_code == 0, result.output
    for option in ("-q, --quiet", "--utc", "--ascii"):
        assert option in result.stdout
    assert result.stdout.isascii(), re.findall(r"[^\x00-\x7f]", result.stdout)


@pytest.mark.parametrize("name", ALL)
def test_every_verb_s_help_says_what_it_does_and_has_an_example(project: Project, name: str) -> None:
    command = ALL[name]
    text = project.run(*name.split(), "--help").stdout
    assert command.example, f"{name} has no example"
    assert all(f"  {line}\n" in text for line in command.example), "examples are not wrapped"
    first = (command.help or "").strip().splitlines()[0]
    assert re.fullmatch(r"[A-Z].*[.,:]", first), first
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, (name, param.name)
            assert re.fullmatch(r"[A-Z-].*[.?)\]]", param.help, re.DOTALL), (name, param.help)


def test_quiet_says_nothing_but_errors(project: Project) -> None:
    result = project.run("run", "order.yaml", "-i", "n=1", "--local", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert '"sum": 12' in result.stdout
    wrong = project.run("show", "nope-123", "--quiet")
    assert wrong.exit_code == 3
    assert "Error: Session 'nope-123' not found" in wrong.stderr
    failed = project.run("run", "broken.yaml", "--local", "-q")
    assert failed.exit_code == 1
    assert "it is broken" in failed.stderr
    assert "running" not in failed.stderr


def test_utc_shows_times_in_utc(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """R149."""
    session_id = project.ended()
    stored = project.json("show", session_id)["session"]["started_at"]
    expected = stored[:19].replace("T", " ") + "Z"
    assert expected in project.run("ls", "--utc").stdout
    assert expected in project.run("show", session_id, "--utc").stdout
    assert expected not in project.run("ls").stdout
    monkeypatch.setenv("CELERY_CASCADE_UTC", "1")
    assert expected in project.run("ls").stdout


def test_ascii_writes_our_own_words_in_ascii_and_leaves_users_theirs(project: Project) -> None:
    result = project.run("run", "order.yaml", "-i", "n=1", "-i", f"word={'ü…' * 60}", "--local", "--ascii")
    assert (result.exit_code, result.stdout.isascii()) == (0, True)
    assert "\\u2026" in result.stdout
    shown = project.run("show", "@last", "--ascii").stdout
    assert "…" not in shown
    assert "ü" in shown
    (project.folder / "order.yaml").write_text("# … → ü\n" + (project.folder / "order.yaml").read_text())
    project.ended()
    assert "# … → ü" in project.run("definition", "@last", "--ascii").stdout
    assert project.run("diff", "@last", "@last", "--ascii").output.isascii()
    assert project.json("show", "@last", "--ascii")["session"]["status"] == "completed"


def test_one_call_leaves_nothing_for_the_next(project: Project) -> None:
    project.run("ls", "-q", "--utc", "--ascii")
    assert "No sessions." in project.run("ls").stderr
    assert manner.manner() == manner.Manner()


def test_no_color_and_a_pipe_have_no_colours(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.ended(), project.ended("broken.yaml")
    for command in (["ls"], ["show", "@last"], ["diff", "@last", "@last-failed"], ["doctor"]):
        assert "\x1b[" not in project.run(*command).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in project.run("ls").output
