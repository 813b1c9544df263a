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


def test_a_dry_run_lists_what_would_go_and_deletes_nothing(forgetful: Project) -> None:
    """D9."""
    session_id = forgetful.ended()
    result = forgetful.run("prune", "--older-than", "0s", "--dry-run")
    heading, line = result.stdout.splitlines()
    assert heading.split() == ["SESSION", "CASCADE", "STATUS", "ENDED", "SIZE"]
    assert line.split()[:3] == [session_id, "order", "completed"]
    assert line.split()[4:6] == ["s", "ago"]
    assert "Would delete 1 session (1 completed) with" in result.stderr
    assert forgetful.json("ls")["count"] == 1


def test_prune_keeps_what_is_young_and_the_newest_of_each_cascade(project: Project) -> None:
    """D9: 7 days, and the newest 20 whatever their age."""
    project.ended()
    for args in ([], ["--older-than", "7d"], ["--older-than", "0s"]):
        assert project.json("prune", *args)["deleted"] == 0


def test_prune_in_json_has_these_keys(project: Project) -> None:
    found = project.json("prune", "--dry-run")
    assert set(found) == {
        "schema", "deleted", "batches", "by_status", "sessions", "more", "definitions", "workers", "mended", "dry_run",
    }  # fmt: skip
    assert project.json("prune", "--older-than", "0s", "--keep-last", "0", "--dry-run")["sessions"] == []
    session_id = project.ended()
    (one,) = project.json("prune", "--older-than", "0s", "--keep-last", "0", "--dry-run")["sessions"]
    assert (one["session_id"], set(one)) == (session_id, {"session_id", "cascade_id", "status", "seconds", "bytes"})


def test_prune_of_one_cascade_leaves_the_last_ones_that_it_is_told_to(project: Project) -> None:
    """R141: keep-last-n per cascade."""
    orders, broken = [project.ended() for _ in range(3)], project.ended("broken.yaml")
    prune = ["prune", "--older-than", "0s", "--status", "completed,failed"]
    assert project.json(*prune, "--cascade", "order", "--keep-last", "1")["by_status"] == {"completed": 2}
    assert {one["session_id"] for one in project.json("ls")["sessions"]} == {orders[2], broken}


def test_vacuum_gives_room_back_to_the_disk(forgetful: Project) -> None:
    for _ in range(3):
        forgetful.run("run", "order.yaml", "-i", "n=1", "-i", f"word={'x' * 300_000}", "--local")
    result = forgetful.run("prune", "--older-than", "0s", "--vacuum")
    assert result.exit_code == 0
    assert "The file of the store took" in result.stderr
    found = forgetful.json("prune", "--vacuum")["vacuum"]
    assert found["before"] == found["after"] < 500_000


@pytest.mark.parametrize("args", [["--dry-run", "--vacuum"]])
def test_vacuum_is_refused_where_it_makes_no_sense(project: Project, args: list[str]) -> None:
    assert project.run("prune", *args).exit_code == 2


def test_a_kept_session_is_shown_and_stays(forgetful: Project) -> None:
    """D9: the command that undoes it works as printed."""
    kept, other = forgetful.ended(), forgetful.ended()
    result = forgetful.run("keep", kept[:8], "--reason", "audit")
    assert (result.exit_code, result.stdout) == (0, kept + "\n")
    assert "is kept." in result.stderr
    assert "nothing was changed" in forgetful.run("keep", kept).stderr
    shown = forgetful.run("show", kept).stdout
    assert "Kept" in shown
    assert forgetful.json("show", kept)["session"]["kept"] is True
    (action,) = forgetful.runtime.store.actions(kept)
    assert (action["action"], action["reason"]) == ("keep", "audit")
    assert action["actor"]
    assert forgetful.json("prune", "--older-than", "0s")["deleted"] == 1
    assert forgetful.run("show", other).exit_code == 3

    (undo,) = commands_in(shown)
    assert undo == ["keep", "--undo", kept]
    assert forgetful.json(*undo)["sessions"] == [{"session_id": kept, "kept": False}]
    assert forgetful.json("prune", "--older-than", "0s")["deleted"] == 1
    assert forgetful.run("keep", "nobody").exit_code == 3


def test_rm_deletes_one_session_without_asking(project: Project) -> None:
    """D10."""
    session_id, other = project.ended(), project.ended()
    result = project.run("rm", session_id)
    assert (result.exit_code, result.stdout) == (0, session_id + "\n")
    assert "Deleted 1 session." in result.stderr
    assert project.run("rm", session_id).exit_code == 3
    assert [one["session_id"] for one in project.json("ls")["sessions"]] == [other]


def test_rm_of_several_asks_and_a_dry_run_does_not(project: Project) -> None:
    ids = [project.ended(), project.ended("broken.yaml")]
    assert project.json("rm", *ids, "--dry-run") == {
        "schema": "cascade/1", "deleted": 2, "session_ids": ids, "dry_run": True,
    }  # fmt: skip
    for answer, said in (("n\n", "nothing was deleted"), ("", "--yes")):
        result = project.run("rm", *ids, input=answer)
        assert result.exit_code == 2
        assert said in result.stderr
    assert project.json("ls")["count"] == 2
    assert "Delete 2 sessions?" in project.run("rm", *ids, input="n\n").stderr
    assert project.run("rm", *ids, input="y\n").exit_code == 0
    assert project.json("ls")["count"] == 0
    ids = [project.ended(), project.ended()]
    assert project.json("rm", "--yes", *ids, ids[0])["session_ids"] == ids


def test_rm_deletes_none_if_one_cannot_go(project: Project) -> None:
    """D10: an active one is a conflict, with the command that cancels it, and that works as printed."""
    done, active = project.ended(), project.started()
    result = project.run("rm", "--yes", done, active)
    assert result.exit_code == 4
    assert commands_in(result.stderr) == [["cancel", active]]
    assert project.json("ls")["count"] == 2
    assert project.json("rm", active, code=4)["error"]["type"] == "SessionConflict"
    assert project.run(*commands_in(result.stderr)[0]).exit_code == 0
    assert project.run("keep", done).exit_code == 0
    result = project.run("rm", "--yes", done, active)
    assert result.exit_code == 4
    assert project.run(*commands_in(result.stderr)[0]).exit_code == 0
    assert project.run("rm", "--yes", done, active).exit_code == 0
    assert project.json("ls")["count"] == 0


def test_when_a_session_expires_is_shown(project: Project) -> None:
    """R45."""
    session_id = project.cascades.start("order.yaml", {"n": 1}, expires_in=3600).id
    assert "expires in 60 min" in project.run("ls").stdout
    assert "Expires" in project.run("show", session_id).stdout
    project.ended()
    assert "Expires" not in project.run("show", "@last").stdout


@pytest.mark.parametrize("args", [["--status", "active"], ["--status", "nope"], ["--older-than", "x"]])
def test_prune_refuses_what_makes_no_sense(project: Project, args: list[str]) -> None:
    assert project.run("prune", *args).exit_code == 2


def test_prune_says_when_retention_is_off(make_project) -> None:
    assert "cascade_retention is None" in make_project(cascade_retention=None).run("prune").stderr


def test_migrate_up_reports_what_it_executed_and_the_second_time_nothing(server: Project) -> None:
    """R16."""
    first, second = server.run("migrate", "up"), server.run("migrate", "up")
    assert first.stdout == "Executed 4 migrations: 0001, 0002, 0003, 0004; 0 pending.\n"
    assert second.stdout == "Executed 0 migrations; 0 pending.\n"
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert server.json("migrate", "up") == {
        "schema": "cascade/1", "executed": [], "revision": "0004", "head": "0004", "pending": [],
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
    assert "4 migrations pending: 0001, 0002, 0003, 0004" in before.stderr
    server.run("migrate", "up")
    assert server.run("migrate", "current").stdout == "0004\n"
    assert server.run("migrate", "check").exit_code == 0
    assert server.json("migrate", "check")["pending"] == []


def test_migrate_down_asks_first(server: Project) -> None:
    server.run("migrate", "up")
    for answer, said in (("n\n", "nothing was changed"), ("", "--yes")):
        result = server.run("migrate", "down", input=answer)
        assert result.exit_code == 2
        assert said in result.stderr
        assert server.run("migrate", "check").exit_code == 0
    assert server.run("migrate", "down", input="y\n").stdout == "Undid 1 migration: 0004; 1 pending.\n"
    for pending, revision in enumerate(("0003", "0002", "0001"), start=2):
        undone = f"Undid 1 migration: {revision}; {pending} pending.\n"
        assert server.run("migrate", "down", "--yes").stdout == undone
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
    assert json.loads(project.run("migrate", "check", "--json").stdout)["revision"] == "0004"
