"""Each broken store: what start, worker, `ls` and `doctor` say, and the exit code; docs/broken-stores.md says the same.

To write the page's table anew: CASCADE_WRITE_DOCS=1 pytest tests/cli/test_broken_stores.py
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import signals as celery_signals
from sqlalchemy.engine import make_url

from celery_cascade.cli import fixing
from celery_cascade.persistence import salvage
from cli.broken import CASES, Case, Morning, morning
from cli.kit import Project, commands_in

PAGE = Path(__file__).parents[2] / "docs" / "broken-stores.md"
BEGIN, END = "<!-- the table: tests/cli/test_broken_stores.py -->", "<!-- end of the table -->"

parametrised = pytest.mark.parametrize(
    "broken",
    [pytest.param(case, id=case.what, marks=[getattr(pytest.mark, mark) for mark in case.marks]) for case in CASES],
)


@pytest.fixture
def day(make_project: Any, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(getpass, "getuser", lambda: "shop")
    with morning(make_project, tmp_path, request, monkeypatch) as found:
        yield found


class Controller:
    """As far as `worker_init` has built it."""

    blueprint = None
    pool_cls, hostname, concurrency, prefetch_multiplier = "solo", "n@h", 1, 1

    def __init__(self, app: Any) -> None:
        self.app = app

    def setup_logging(self) -> None:
        pass


def plain_words(text: str, project: Project) -> str:
    """Without what differs between two machines."""
    url = project.runtime.app.conf.get("cascade_database_url") or ""
    text = re.sub(rf"(?:celery )?(?:cascade )?-A {project.name} (?=\w)", "cascade ", text)
    text = text.replace(str(project.folder), "/srv/shop").replace("cascade cascade", "cascade")
    if "127.0.0.1" in url:
        text = text.replace(str(make_url(url).host), "db")
    return re.sub(r"(let this user in|does not answer): .*", r"\1: …", text)  # the server's own words


@parametrised
def test_a_broken_store_is_told_alike_by_all_and_as_the_page_says(
    broken: Case, day: Morning, caplog: pytest.LogCaptureFixture
) -> None:
    """R121, R122, R150, D4: what, where, the cure; the exit code; nothing of it hides a traceback."""
    project = broken.breaks(day)
    before = day.file.read_bytes() if broken.fix == 0 and day.file.is_file() and "dropped" not in broken.what else None
    start = project.run("run", "order.yaml", "-i", "n=1", "--detach")
    message = first_line(start.stderr)
    for result in (start, project.run("ls"), project.run("show", "@last")):
        assert (result.exit_code, first_line(result.stderr)) == (broken.code, message), result.output
        assert "Traceback" not in result.output
        assert "canary" not in result.output
        assert result.stdout == ""
    found = project.json("doctor", code=broken.code)
    check = next(check for check in found["checks"] if check["state"] == "error")
    assert f"Error: {check['message'].splitlines()[0]}" == message
    with caplog.at_level(logging.CRITICAL, "celery_cascade"), pytest.raises(SystemExit) as stopped:
        celery_signals.worker_init.send(sender=Controller(project.runtime.app))
    assert stopped.value.code == broken.code
    assert f"this worker does not start: {message.removeprefix('Error: ')}" in caplog.text
    day.end()
    cure = start.stderr.splitlines()[1:]
    assert cure
    assert row(broken, plain_words(message, project), plain_words("\n".join(cure), project)) in table()
    if before is not None:
        assert day.file.read_bytes() == before  # D4: a damaged file is not written to


@parametrised
def test_doctor_fix_does_what_is_safe_and_no_more(broken: Case, day: Morning) -> None:
    """D4: afterwards the same command that failed works, or says as before what a person has to do."""
    project = broken.breaks(day)
    result = project.run("doctor", "--fix")
    listed = project.run("ls")
    day.end()
    assert (result.exit_code, listed.exit_code) == (broken.fix, broken.fix), result.output
    assert "Traceback" not in result.output
    aside = list(day.folder.glob(".cascade/store.sqlite.corrupt-*Z"))
    if broken.code == 2:  # there is no store to look at
        return
    if broken.fix:
        assert (aside, "nothing to fix" in result.stderr) == ([], True)
        return
    assert project.run("run", "order.yaml", "-i", "n=1", "--local").exit_code == 0
    if "dropped" in broken.what:
        assert "Made again" in result.stderr
    else:
        assert f"Moved the damaged file to {aside[0]}" in result.stderr
        kept = set(getattr(project, "used", ()))
        assert kept <= {row["session_id"] for row in project.json("ls")["sessions"]}


def first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line), "")


def row(broken: Case, message: str, cure: str) -> str:
    """A line of the page."""
    cells = [broken.what, f"`{message}`", str(broken.code), "<br>".join(cure.splitlines())]
    cells.append("mends it" if broken.fix == 0 else "says the same")
    line = f"| {' | '.join(cells)} |"
    if os.environ.get("CASCADE_WRITE_DOCS"):
        _write(broken, line)
    return line


def table() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return text[text.index(BEGIN) : text.index(END)].splitlines()


def _write(broken: Case, line: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    head, body, tail = text[: text.index(BEGIN)], table(), text[text.index(END) :]
    known = {entry.split(" | ")[0].removeprefix("| "): entry for entry in body if entry.startswith("| ")}
    known[broken.what] = line
    order = ["broken store", *(case.what for case in CASES)]
    lines = [BEGIN, known[order[0]], "|---|---|---|---|---|", *(known[what] for what in order[1:] if what in known)]
    PAGE.write_text(head + "\n".join(lines) + "\n" + tail, encoding="utf-8")


def test_the_page_has_a_row_for_each_case_and_no_other() -> None:
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table() if line.startswith("| ")]
    assert rows == ["broken store", *(case.what for case in CASES)]


def test_the_pages_tests_are_there() -> None:
    """The second table names a test for each row."""
    root = PAGE.parents[1]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert named
    for path, name in named:
        assert f"def {name}(" in (root / path).read_text(encoding="utf-8"), name


def test_one_bad_row_is_told_by_show_resume_and_doctor_and_hides_nothing(make_project: Callable[..., Project]) -> None:
    """R121, R85."""
    project = make_project()
    hurt, well = project.ended(), project.started()
    project.runtime.store.database.transaction(
        lambda connection: connection.exec_driver_sql("UPDATE session_steps SET output = '{x' WHERE output IS NOT NULL")
    )
    assert {row["session_id"] for row in project.json("ls")["sessions"]} == {hurt, well}
    shown = project.run("show", hurt)
    assert shown.exit_code == 7
    assert f"session {hurt}: step 'one': its output cannot be read" in shown.stderr
    doctor = project.run("doctor")
    assert doctor.exit_code == 7
    assert f"session {hurt}: step 'one': session_steps.output is no JSON" in doctor.stdout
    assert ["cancel", hurt] in commands_in(doctor.stdout)
    assert project.run("show", well).exit_code == 0
    failed = project.ended("broken.yaml")
    project.runtime.store.database.transaction(
        lambda connection: connection.exec_driver_sql(
            f"UPDATE session_steps SET call = 'x' WHERE session_id = '{failed}'"
        )
    )
    resumed = project.run("resume", failed)
    assert resumed.exit_code == 5
    assert f"Failed to restore session {failed}: step 'before': its call" in resumed.stderr


def test_the_block_for_bug_reports_says_everything_but_secrets(make_project: Callable[..., Project]) -> None:
    """R145: a canary password is nowhere in it; it can be pasted as it is."""
    project = make_project(
        cascade_database_url="postgresql://me:canary%2F1@127.0.0.1:1/x?sslpassword=canary2",
        broker_url="redis://:canary3@127.0.0.1:1/0",
        result_backend="db+postgresql://me:canary4@127.0.0.1/x",
        redis_password="canary5",
        task_routes={"x": {"queue": "redis://me:canary6@h/0"}},
    )
    text = project.run("doctor", "--report").stdout
    assert text.startswith("```text\n")
    assert text.endswith("\n```\n")
    assert "canary" not in text
    for word in ("python ", "celery-cascade ", "SQLAlchemy ", "settings", "cascade_database_url", "127.0.0.1:1", "***"):
        assert word in text


def test_the_block_of_a_sound_project_tells_versions_counts_and_checks(project: Project) -> None:
    project.ended()
    project.started()
    text = project.run("doctor", "--report").stdout
    for words in ("schema 0004, needed 0004", "active 1, completed 1", "sqlite 3.", "store.sqlite", "ok       guard"):
        assert words in text
    found = project.json("doctor")
    assert json.dumps(found).count("guarded") == 1
    own = project.json("doctor", "--tasks")["tasks"]
    assert f"{len(own)} tasks, each of them guarded" in project.run("doctor").stdout


@pytest.mark.parametrize("kind", ["junk", "a folder"])
def test_a_broken_file_of_the_embedded_broker_is_told_by_doctor_and_worker(
    project: Project, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert "its file is not there yet" in project.run("doctor").stdout
    file = project.folder / ".cascade" / "broker.sqlite"
    if kind == "junk":
        file.write_bytes(b"garbage " * 1000)
    else:
        file.mkdir()
    result = project.run("doctor")
    why = "file is not a database" if kind == "junk" else "it is a folder, not a file"
    assert result.exit_code == 69, result.output
    assert f"ERROR   broker    the embedded broker's file {file} cannot be used: {why}" in result.stdout
    assert "Stop the workers and move it away (its messages are sent again from the store)" in result.stdout
    assert f"mv {file} {file}.broken" in result.stdout
    with caplog.at_level(logging.CRITICAL, "celery_cascade"), pytest.raises(SystemExit) as stopped:
        celery_signals.worker_init.send(sender=Controller(project.runtime.app))
    assert stopped.value.code == 69
    assert f"the embedded broker's file {file} cannot be used" in caplog.text
    # `run` stores the session all the same, and says that its message could not be sent.
    with caplog.at_level(logging.WARNING, "celery_cascade"):
        session_id = project.started()
    assert "step one: the broker did not take its message" in caplog.text
    file.rename(f"{file}.broken")
    assert project.run("doctor").exit_code == 0
    assert project.run("resume", session_id, "--local").exit_code == 0


def test_a_long_salvage_says_how_far_it_is(day: Morning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage, "_EACH", 2)
    monkeypatch.setattr(fixing, "_SLOW", 0)
    project = day.used()
    day.overwrite(day.root_of("session_actions"))
    result = project.run("doctor", "--fix")
    assert result.exit_code == 0, result.output
    assert f"Looking through {day.file} (" in result.stderr
    assert "cascade_sessions: 2 rows so far …" in result.stderr
