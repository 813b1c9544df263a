"""What people write about a session may say `password=…`: reasons, names, tags; no view shows it (R145)."""

from __future__ import annotations

import json

import pytest

from celery_cascade.errors import SessionFailed
from cli.kit import Project

SECRET = "hunter2-7Qx9"
VERBS = [
    "ls", "ls --json", "ls --status cancelled --json", "show @last", "show @last --json", "show first --json",
    "replay @last", "replay @last --json", "replay @last --at 1", "replay @last --at 4 --json", "tree @last",
    "tree @last --json", "diff first @last", "diff first @last --json", "watch @last", "watch @last --json",
]  # fmt: skip


@pytest.fixture(params=["password={}", "the token: {}, so", "Authorization: Bearer {}"])
def words(request: pytest.FixtureRequest, project: Project) -> str:
    """Words with a secret that stand wherever people can leave some."""
    said: str = request.param.format(SECRET)
    project.started("--session", "first", "--name", said, "--tag", said)
    for verb in ("keep", "suspend", "resume", "cancel"):
        done = project.run(verb, "first", "--reason", said)
        assert done.exit_code == 0, done.output
        assert SECRET not in done.output
    rerun = project.run("rerun", "first", "--reason", said, "--detach")
    assert SECRET not in rerun.output
    last = rerun.stdout.strip()
    for verb in ("suspend", "resume"):
        assert SECRET not in project.run(verb, last, "--reason", said, "--json").output
    bulk = project.run("cancel", "--status", "active", "--yes", "--reason", said, "--json")
    assert (bulk.exit_code, SECRET in bulk.output) == (0, False)
    return said


def test_reasons_names_and_tags_are_shown_without_it(project: Project, words: str) -> None:
    """R145: `key=value` and `key: value`, as in the messages of errors."""
    for verb in VERBS:
        said = project.run(*verb.split())
        assert said.exit_code in (0, 1), (verb, said.output)
        assert SECRET not in said.stdout + said.stderr, verb
        if not verb.startswith("diff first @last"):
            assert "[redacted]" in said.stdout + said.stderr, verb


def test_an_error_tells_the_reason_without_it_and_programs_have_it(project: Project, words: str) -> None:
    """R145: an error may end in a log."""
    session = project.cascades.session("first")
    with pytest.raises(SessionFailed) as raised:
        session.result(timeout=0)
    assert "[redacted]" in str(raised.value)
    assert SECRET not in str(raised.value)
    assert session.reason == words
    assert SECRET in json.dumps(session.to_dict(redact=False))
    assert SECRET not in json.dumps([session.to_dict(), session.timeline(), session.at(session.version)])
    assert SECRET not in json.dumps(project.cascades.sessions().to_dict())


def test_words_in_data_stay_as_they_are(project: Project) -> None:
    """R145 goes by keys: a text that a step has given is not read for what it may mean."""
    (project.folder / "said.yaml").write_text(
        "cascade: said\nsteps:\n  - {id: a, task: shop.echo, with: {value: {reason: 'password: too short', name: n}}}\n"
        "output: {reason: 'password: too short'}\n"
    )
    project.ended("said.yaml")
    shown = project.json("show", "@last")["session"]
    assert shown["steps"][0]["output"] == {"reason": "password: too short", "name": "n"}
    assert shown["output"] == {"reason": "password: too short"}
