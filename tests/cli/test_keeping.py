"""`prune` and `migrate`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from cli.kit import Project, commands_in


@pytest.fixture
def server(make_project, tmp_path: Path) -> Project:
    """A project whose database is its own, so that it does not migrate itself."""
    return make_project(cascade_database_url=f"sqlite:///{tmp_path / 'own.sqlite'}")


@pytest.fixture
def forgetful(make_project) -> Project:
    return make_project(cascade_retention={"keep_last": 0})


def test_prune_deletes_what_is_older_than_asked_and_nothing_that_failed(forgetful: Project) -> None:
    """D9."""
    done, failed, waits = forgetful.ended(), forgetful.ended("broken.yaml"), forgetful.started()
    result = forgetful.run("prune", "--older-than", "0s")
    assert result.exit_code == 0
    assert "Deleted 1 session (1 completed)" in result.stdout
    assert {one["session_id"] for one in forgetful.json("ls")["sessions"]} == {failed, waits}
    assert forgetful.run("show", done).exit_code == 3
    assert forgetful.json("prune", "--older-than", "0s", "--status", "failed")["by_status"] == {"failed": 1}


def test_a_dry_run_prints_the_ids_and_deletes_nothing(forgetful: Project) -> None:
    """D9."""
    session_id = forgetful.ended()
    result = forgetful.run("prune", "--older-than", "0s", "--dry-run")
    assert result.stdout == session_id + "\n"
    assert "Would delete 1 session (1 completed)." in result.stderr
    assert forgetful.json("ls")["count"] == 1


def test_prune_keeps_what_is_young_and_the_newest_of_each_cascade(project: Project) -> None:
    """D9: 7 days, and the newest 20 whatever their age."""
    project.ended()
    for args in ([], ["--older-than", "7d"], ["--older-than", "0s"]):
        assert project.json("prune", *args)["deleted"] == 0


def test_prune_in_json_has_these_keys(project: Project) -> None:
    found = project.json("prune", "--dry-run")
    assert set(found) == {
        "schema", "deleted", "batches", "by_status", "session_ids", "definitions", "workers", "dry_run",
    }  # fmt: skip


@pytest.mark.parametrize("args", [["--status", "active"], ["--status", "nope"], ["--older-than", "x"]])
def test_prune_refuses_what_makes_no_sense(project: Project, args: list[str]) -> None:
    assert project.run("prune", *args).exit_code == 2


def test_prune_says_when_retention_is_off(make_project) -> None:
    assert "cascade_retention is None" in make_project(cascade_retention=None).run("prune").stderr


def test_migrate_up_reports_what_it_executed_and_the_second_time_nothing(server: Project) -> None:
    """R16."""
    first, second = server.run("migrate", "up"), server.run("migrate", "up")
    assert first.stdout == "Executed 1 migration: 0001; 0 pending.\n"
    assert second.stdout == "Executed 0 migrations; 0 pending.\n"
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert server.json("migrate", "up") == {
        "schema": "cascade/1", "executed": [], "revision": "0001", "head": "0001", "pending": [],
    }  # fmt: skip


def test_every_verb_on_a_store_without_tables_exits_7_and_names_the_command_that_helps(server: Project) -> None:
    """D4, R150: the command works as printed."""
    for verb in (["ls"], ["show", "x"], ["run", "order.yaml", "-i", "n=1", "--local"], ["prune"], ["migrate", "check"]):
        result = server.run(*verb)
        assert result.exit_code == 7
        assert commands_in(result.stderr) == [["migrate", "up"]]
        assert "Traceback" not in result.output
    assert server.run("migrate", "up").exit_code == 0
    assert server.run("ls").exit_code == 0


def test_migrate_current_and_check_say_where_the_tables_are(server: Project) -> None:
    """R16: what is pending."""
    before = server.run("migrate", "current")
    assert (before.exit_code, before.stdout) == (0, "none\n")
    assert "1 migration pending: 0001" in before.stderr
    server.run("migrate", "up")
    assert server.run("migrate", "current").stdout == "0001\n"
    assert server.run("migrate", "check").exit_code == 0
    assert server.json("migrate", "check")["pending"] == []


def test_migrate_down_asks_first(server: Project) -> None:
    server.run("migrate", "up")
    for answer, said in (("n\n", "nothing was changed"), ("", "--yes")):
        result = server.run("migrate", "down", input=answer)
        assert result.exit_code == 2
        assert said in result.stderr
        assert server.run("migrate", "check").exit_code == 0
    assert server.run("migrate", "down", input="y\n").stdout == "Undid 1 migration: 0001; 1 pending.\n"
    assert server.run("migrate", "down", "--yes").exit_code == 2


def test_migrate_down_with_yes_does_not_ask(server: Project) -> None:
    server.run("migrate", "up")
    assert server.json("migrate", "down", "base", "--yes")["revision"] is None


def test_migrate_sql_is_what_the_database_takes(server: Project, tmp_path: Path) -> None:
    text = server.run("migrate", "sql").stdout
    with sqlite3.connect(tmp_path / "by_hand.sqlite") as connection:
        connection.executescript(text)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert {"cascade_sessions", "session_states", "session_steps"} <= tables


def test_migrate_needs_nothing_of_the_embedded_store(project: Project) -> None:
    assert project.run("ls").exit_code == 0
    assert json.loads(project.run("migrate", "check", "--json").stdout)["revision"] == "0001"
