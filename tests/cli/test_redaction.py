"""A secret in inputs, outputs, context and errors is shown nowhere; SQL has it (R145)."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from celery_cascade.redaction import Keys
from cli.kit import Project

CANARY = "canary-7Qx9"
SPILL = """\
cascade: spill
inputs: {api_key: string, n: {type: integer, default: 1}}
steps:
  - {id: echo, task: shop.echo, with: {value: {password: "{{ inputs.api_key }}", n: "{{ inputs.n }}"}}}
  - {id: boom, task: shop.fail, with: {message: "no entry with {{ inputs.api_key }} for ann"}}
"""
GIVE = """\
cascade: give
inputs: {api_key: string}
steps:
  - {id: echo, task: shop.echo, with: {value: {password: "{{ inputs.api_key }}", n: 1}}}
  - {id: say, task: shop.echo, with: {value: "it is {{ inputs.api_key }}"}}
output: {login: {token: "{{ inputs.api_key }}"}, said: "{{ outputs.say }}"}
"""


@pytest.fixture
def spilled(project: Project, caplog: pytest.LogCaptureFixture) -> str:
    """A session that has failed with a secret in all that it has; its log is in `caplog`."""
    (project.folder / "spill.yaml").write_text(SPILL)
    with caplog.at_level(logging.INFO):
        session_id = project.ended("spill.yaml", "-i", f"api_key={CANARY}", "--name", "spill", "--tag", "x")
    session = project.cascades.session(session_id)
    session.context["login"] = {"token": CANARY, "user": "ann"}
    session.say("user", {"password": CANARY})
    return session_id


def stored(project: Project) -> str:
    with closing(sqlite3.connect(project.folder / ".cascade" / "store.sqlite")) as store:
        return "\n".join(store.iterdump())


@pytest.mark.parametrize(
    "verb",
    [
        "ls",
        "ls --json",
        "ls --input canary --error entry --json",
        "show @last",
        "show @last --json",
        "show @last --traceback",
        "replay @last",
        "replay @last --json",
        "replay @last --at 5 --json",
        "replay @last --at 5",
        "tree @last --json",
        "fork @last --dry-run --json",
        "watch @last",
        "watch @last --json",
        "doctor --report",
        "doctor --json",
    ],
)
def test_a_canary_is_seen_in_no_verb(project: Project, spilled: str, verb: str) -> None:
    """R145: in data, in words, in tracebacks."""
    said = project.run(*verb.split())
    assert CANARY not in said.stdout + said.stderr
    assert said.stdout or said.stderr
    if verb.startswith("show"):
        assert "[redacted]" in said.stdout
        assert "no entry with [redacted] for ann" in said.stdout


def test_a_canary_is_not_in_the_log(spilled: str, caplog: pytest.LogCaptureFixture) -> None:
    """R145: what Celery says of a step that ended, well or not, and of its traceback."""
    formatted = "\n".join(logging.Formatter().format(record) for record in caplog.get_records("setup"))
    assert CANARY not in formatted
    assert "{'password': [redacted], 'n': 1}" in formatted
    assert "ValueError: no entry with [redacted] for ann" in formatted
    assert "Traceback (most recent call last)" in formatted
    for record in caplog.get_records("setup"):
        assert CANARY not in repr(getattr(record, "data", None))


@pytest.mark.parametrize("said", ["it is fine", None])
def test_the_inputs_of_a_session_are_looked_through_once_for_all_its_lines(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: str | None
) -> None:
    """R145: they may be a megabyte, and a step a hundred bytes; a walk for each line cost more than the steps."""
    looked: list[str] = []
    match = Keys.match
    monkeypatch.setattr(Keys, "match", lambda self, key: looked.append(key) or match(self, key))

    def looks(count: int) -> int:
        looked.clear()
        steps = [{"id": f"s{n}", "task": "shop.echo", "with": {"value": said}} for n in range(count)]
        project.cascades.run({"cascade": "many", "steps": steps}, {"row": {"only_in_inputs": 1}})
        return looked.count("only_in_inputs")

    with caplog.at_level(logging.INFO, "celery.app.trace"):
        assert looks(6) == looks(1)


def test_the_end_of_a_run_hides_it_too(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """R145."""
    (project.folder / "give.yaml").write_text(GIVE)
    with caplog.at_level(logging.INFO):
        done = project.run("run", "give.yaml", "-i", f"api_key={CANARY}", "--local")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"login": {"token": "[redacted]"}, "said": "it is [redacted]"}
    assert CANARY not in done.stderr + caplog.text


def test_programs_and_sql_have_it(project: Project, spilled: str) -> None:
    """R145: hidden is what is shown; a step must get what it was given."""
    session = project.cascades.session(spilled)
    assert session.inputs["api_key"] == CANARY
    assert session.steps[0]["output"] == {"password": CANARY, "n": 1}
    assert session.context["login"]["token"] == CANARY
    assert CANARY in session.attempts[0]["error"]
    assert session.stored_cascade()["input_data"]["api_key"] == CANARY
    assert session.conversation_history[-1]["content"] == {"password": CANARY}
    assert CANARY in json.dumps([session.context_history, session.at(session.version, redact=False)])
    assert CANARY in json.dumps(session.to_dict(redact=False))
    assert CANARY not in json.dumps(session.to_dict())
    assert stored(project).count(CANARY) > 3


def test_an_empty_list_of_keys_hides_nothing(make_project: Callable[..., Project]) -> None:
    project = make_project(cascade_redact=[])
    (project.folder / "give.yaml").write_text(GIVE)
    project.ended("give.yaml", "-i", f"api_key={CANARY}")
    assert CANARY in project.run("show", "@last").stdout


def test_an_error_that_is_raised_hides_it(project: Project, spilled: str) -> None:
    """R145: it may end in a log."""
    with pytest.raises(Exception, match=r"no entry with \[redacted\] for ann"):
        project.cascades.session(spilled).result(timeout=0)


CONSTANT = """\
cascade: constant
inputs: {api_key: string}
steps:
  - {id: boom, task: shop.fail, with: {message: "no entry"}}
  - {id: later, task: shop.echo, with: {value: {password: the canary of 7Qx9, n: 1}}}
"""


@pytest.mark.parametrize(
    "verb",
    [
        "replay @last --at 1 --json",
        "definition @last",
        "definition @last --json",
        "run constant.yaml --resume --local",
        "diff first @last",
        "diff first @last --json",
    ],
)
def test_a_secret_of_the_file_is_shown_in_no_verb(project: Project, verb: str) -> None:
    """R145: what a definition says under a secret key, several words long; --raw alone is byte for byte."""
    file = project.folder / "constant.yaml"
    file.write_text(CONSTANT)
    project.ended("constant.yaml", "-i", "api_key=k", "--session", "first")
    file.write_text(CONSTANT.replace("the canary", "another canary"))
    project.ended("constant.yaml", "-i", "api_key=k")
    file.write_text(CONSTANT.replace("the canary", "a third canary"))
    said = project.run(*verb.split())
    assert "[redacted]" in said.stdout + said.stderr
    assert "7Qx9" not in said.stdout + said.stderr
    assert "another canary of 7Qx9" in project.run("definition", "@last", "--raw").stdout
    session = project.cascades.last_session("constant.yaml")
    assert session is not None
    for raw in (session.definition.decode(), session.stored_cascade()["definition"], session.source.body.decode()):
        assert "another canary of 7Qx9" in raw


@pytest.mark.parametrize(
    "new", ["inputs: {api_key: integer}", "inputs: {api_key: {enum: [a, b]}}", "inputs: {api_key: {maxLength: 3}}"]
)
@pytest.mark.parametrize("secret", [CANARY, CANARY * 20, "abc!"])
def test_an_input_that_does_not_fit_is_not_told(project: Project, new: str, secret: str) -> None:
    """R145: neither by a start nor by a fork with what is stored."""
    file = project.folder / "give.yaml"
    file.write_text(GIVE)
    project.ended("give.yaml", "-i", f"api_key={secret}")
    file.write_text(GIVE.replace("inputs: {api_key: string}", new))
    for verb in ("fork @last --at say --use-current-definition", f"run give.yaml -i api_key={secret}"):
        refused = project.run(*verb.split())
        assert refused.exit_code == 6
        assert "input 'api_key' must" in refused.stderr
        assert secret[:20] not in refused.stdout + refused.stderr


def test_a_template_that_fails_does_not_tell_it(project: Project) -> None:
    """R145: also where the message shows only the beginning of a long one."""
    file = project.folder / "give.yaml"
    for secret in (CANARY, CANARY * 20):
        file.write_text(GIVE)
        project.ended("give.yaml", "-i", f"api_key={secret}")
        file.write_text(GIVE.replace("inputs.api_key }}", "inputs.api_key | int }}"))
        for verb in ("fork @last --at echo --use-current-definition", f"run give.yaml -i api_key={secret}"):
            refused = project.run(*verb.split())
            assert refused.exit_code == 6
            assert "is not a number" in refused.stderr
            assert CANARY not in refused.stdout + refused.stderr
