"""A secret of a session that another one comes from is shown of neither (R145): its turns before, what it forks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest

from cli.kit import Project, id_in

CANARY = "canary-7Qx9"
LATER = """\
cascade: later
inputs: {message: string, api_key: {type: string, default: none}}
steps:
  - {id: say, task: shop.echo, with: {value: "you said {{ inputs.message }}"}}
  - {id: also, task: shop.echo, with: {value: "{{ inputs.message }}!"}}
output: "{{ outputs.say }}"
"""
#: How a session comes from the one that bears the secret.
WAYS = {
    "turn": [["run", "later.yaml", "--thread", "t"]],
    "third turn": [["run", "later.yaml", "--thread", "t"], ["run", "later.yaml", "--thread", "t"]],
    "fork": [["fork", "@last", "--at", "say"]],
    "fork of a fork": [["fork", "@last", "--at", "say"], ["fork", "@last", "--at", "say"]],
    "fork of a turn": [["run", "later.yaml", "--thread", "t"], ["fork", "@last", "--at", "say"]],
    "turn after a fork": [["fork", "@last", "--at", "say", "--thread", "u"], ["run", "later.yaml", "--thread", "u"]],
}
VERBS = ["show @last", "show @last --json", "replay @last", "replay @last --json", "replay @last --at 3 --json",
         "replay @last --at 3", "diff first @last", "diff @last nothing", "diff @last nothing --json", "watch @last",
         "watch @last --json", "fork @last --at say --dry-run --json"]  # fmt: skip


@pytest.fixture(params=WAYS)
def heir(request: pytest.FixtureRequest, make_project: Callable[..., Project], caplog: pytest.LogCaptureFixture) -> str:
    """A session that repeats in words what one before it bears under a secret key; its log is in `caplog`."""
    project = request.node.project = make_project(task_always_eager=True)
    (project.folder / "later.yaml").write_text(LATER)
    first = ["run", "later.yaml", "-i", "message=hello", "--thread", "t"]
    assert project.run("run", "later.yaml", "-i", "message=hm", "--session", "nothing").exit_code == 0
    assert project.run(*first, "-i", f"api_key={CANARY}", "--session", "first").exit_code == 0
    *between, last = WAYS[request.param]
    for words in between:
        assert project.run(*words, "-i", "message=hm", "-i", "api_key=none").exit_code == 0
    with caplog.at_level(logging.INFO):
        done = project.run(*last, "-i", f"message=I know {CANARY}", "-i", "api_key=none")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == "you said I know [redacted]"
    return id_in(done.stderr)


@pytest.fixture
def project(request: pytest.FixtureRequest, heir: str) -> Project:
    found: Project = request.node.project
    return found


def test_it_is_seen_in_no_verb(project: Project, heir: str) -> None:
    """R145: whatever the key is called now, the value stays a secret."""
    for verb in VERBS:
        said = project.run(*verb.split())
        assert said.exit_code in (0, 1), (verb, said.output)
        assert CANARY not in said.stdout + said.stderr, verb
        assert said.stdout or said.stderr


def test_it_is_seen_in_no_view_and_in_no_error(project: Project, heir: str) -> None:
    """R145: `to_dict`, `at`, `timeline`; programs have it."""
    session = project.cascades.session(heir)
    for view in (session.to_dict(), session.at(session.version), session.timeline()):
        assert CANARY not in json.dumps(view)
    assert "you said I know [redacted]" in json.dumps(session.to_dict())
    assert session.output == f"you said I know {CANARY}"
    assert CANARY in json.dumps(session.to_dict(redact=False))


def test_it_is_not_in_the_log(heir: str, caplog: pytest.LogCaptureFixture) -> None:
    """R145: what Celery says of a step that ended."""
    lines = [logging.Formatter().format(record) for record in caplog.get_records("setup")]
    assert any("you said I know [redacted]" in line for line in lines)
    assert not [line for line in lines if CANARY in line]
