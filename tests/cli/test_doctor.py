"""`cascade doctor`: what is so, what is wrong, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from amqp.exceptions import AccessRefused, NotAllowed
from kombu.transport.pyamqp import Transport

from celery_cascade.cli import checks
from celery_cascade.persistence.rows import WorkerRow
from cli.kit import Project, commands_in


def states(found: dict) -> dict[str, str]:
    return {check["name"]: check["state"] for check in found["checks"]}


def test_a_sound_project_is_ok_and_a_missing_worker_only_a_warning(project: Project) -> None:
    """R51: "DB OK"."""
    result = project.run("doctor")
    assert result.exit_code == 0
    assert "DB OK: sqlite:///" in result.stdout
    assert f"Start one with: celery -A {project.name} worker" in result.stdout
    assert "every row has its session" in result.stdout
    assert "failed" not in result.stdout
    found = project.json("doctor")
    assert found["ok"] is True
    assert states(found) == {
        "settings": "ok", "store": "ok", "broker": "ok", "guard": "ok", "references": "ok", "workers": "warning",
        "recovery": "ok",
    }  # fmt: skip


def test_the_embedded_store_is_beside_the_app_and_made_on_first_use(project: Project) -> None:
    """R111, R158: not a matter of the working directory."""
    assert project.run("doctor").exit_code == 0
    assert (project.folder / ".cascade" / "store.sqlite").is_file()


def test_every_wrong_setting_is_told_at_once(make_project) -> None:
    project = make_project(cascade_heartbeat_timeout=1, cascade_max_crashes="many", cascade_hearbeat_interval=2)
    result = project.run("doctor")
    assert result.exit_code == 2
    assert "cascade_heartbeat_timeout (1 s) must be at least twice" in result.stdout
    assert "cascade_max_crashes is 'many'" in result.stdout
    assert "did you mean cascade_heartbeat_interval?" in result.stdout
    assert project.run("ls").exit_code == 2


def test_a_store_without_tables_exits_7(make_project, tmp_path: Path) -> None:
    """R51: or why not."""
    project = make_project(cascade_database_url=f"sqlite:///{tmp_path / 'own.sqlite'}")
    result = project.run("doctor")
    assert result.exit_code == 7
    assert commands_in(result.stdout) == [["migrate", "up"]]


def test_a_relative_sqlite_url_is_shown_as_it_is_read_and_warned_of(
    make_project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project = make_project(cascade_database_url="sqlite:///rel.db")
    whole = f"sqlite:///{tmp_path / 'rel.db'}"
    result = project.run("doctor")
    assert result.exit_code == 7
    assert f"ERROR   store     the store {whole} has no tables" in result.stdout
    assert project.run("migrate", "up").exit_code == 0
    result = project.run("doctor")
    assert result.exit_code == 0
    assert f"DB OK: {whole}, schema" in result.stdout
    assert "warning store     sqlite:///rel.db is relative to the working directory" in result.stdout
    assert f"write {whole}\n" in result.stdout


def test_a_store_that_does_not_answer_exits_69(make_project) -> None:
    project = make_project(cascade_database_url="postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    result = project.run("doctor")
    assert result.exit_code == 69
    assert "does not answer" in result.stdout
    assert "Is it running" in result.stdout
    assert "Find out more" not in result.stdout  # this is what finds out more
    assert project.run("ls").exit_code == 69


def test_passwords_are_not_shown(make_project) -> None:
    """R145."""
    project = make_project(
        cascade_database_url="postgresql+psycopg://me:canary@127.0.0.1:1/x", broker_url="redis://:canary@127.0.0.1:1/0"
    )
    for verb in (["doctor"], ["doctor", "--json"], ["ls"], ["migrate", "up"]):
        assert "canary" not in project.run(*verb).output


def test_a_broker_that_does_not_answer_exits_69(make_project) -> None:
    project = make_project(broker_url="redis://127.0.0.1:1/0")
    found = project.json("doctor", code=69)
    assert states(found)["broker"] == "error"
    assert states(found)["store"] == "ok"


@pytest.mark.parametrize("refused", [NotAllowed("no vhost 'x'"), AccessRefused("ACCESS_REFUSED - Login was refused")])
def test_a_broker_that_refuses_login_or_vhost_exits_69_and_the_other_checks_go_on(
    make_project, monkeypatch: pytest.MonkeyPatch, refused: Exception
) -> None:
    def refuse(self: object) -> None:
        raise refused

    monkeypatch.setattr(Transport, "establish_connection", refuse)
    project = make_project(broker_url="amqp://nobody:canary@127.0.0.1:1/x")
    result = project.run("doctor")
    assert result.exit_code == 69, result.output
    assert "ERROR   broker    the broker amqp://nobody:**@127.0.0.1:1/x refuses us: " in result.stdout
    assert "Look at user, password and virtual host in broker_url" in result.stdout
    assert {"store", "guard", "references", "workers"} <= states(project.json("doctor", code=69)).keys()


def test_a_broker_that_loses_messages_is_refused(make_project) -> None:
    found = make_project(broker_url="filesystem://").json("doctor", code=2)
    assert states(found)["broker"] == "error"


def test_tasks_are_listed_for_those_who_write_cascade_files(project: Project) -> None:
    assert "\nshop.add\n" in project.run("doctor", "--tasks").stdout
    names = project.json("doctor", "--tasks")["tasks"]
    assert "shop.add" in names
    assert not any(name.startswith("celery.") for name in names)


def test_a_damaged_store_exits_7_and_is_moved_aside_by_fix(project: Project) -> None:
    """D4: it is never written to; the command works as printed."""
    home = project.folder / ".cascade"
    (home / "store.sqlite").write_bytes(b"garbage " * 1000)
    result = project.run("ls")
    assert result.exit_code == 7
    assert (home / "store.sqlite").read_bytes() == b"garbage " * 1000
    (command,) = commands_in(result.stderr)
    assert command == ["doctor", "--fix"]
    mended = project.run(*command)
    assert mended.exit_code == 0
    assert "Nothing could be saved from it: the new store" in mended.stderr
    (moved,) = home.glob("store.sqlite.corrupt-*Z")
    assert moved.read_bytes() == b"garbage " * 1000
    assert project.run("ls").exit_code == 0


def test_fix_leaves_a_sound_store_alone(project: Project) -> None:
    session_id = project.started()
    result = project.run("doctor", "--fix")
    assert "nothing to fix" in result.stderr
    assert project.run("show", session_id).exit_code == 0


def test_settings_lists_what_holds_and_where_it_comes_from(make_project, monkeypatch) -> None:
    """R79; no password is shown (R145)."""
    monkeypatch.setenv("CELERY_CASCADE_DATABASE_URL", "postgresql://me:canary@db/x?password=canary")
    project = make_project(cascade_resend_after=90)
    result = project.run("doctor", "--settings")
    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert lines["cascade_resend_after"] == ["90", "s", "cascade_resend_after"]
    assert lines["cascade_timer_interval"] == ["1", "s", "default"]
    assert "completed=7 d" in result.stdout
    assert lines["cascade_database_url"][1] == "CELERY_CASCADE_DATABASE_URL"
    assert "canary" not in result.output
    found = project.json("doctor", "--settings")["settings"]
    assert found["cascade_retention"]["value"]["keep_last"] == 20
    assert found["cascade_home"]["from"] == "cascade_home"


def test_a_variable_that_is_not_read_is_told(project: Project, monkeypatch) -> None:
    monkeypatch.setenv("CELERY_CASCADE_DATABSE_URL", "sqlite://")
    result = project.run("doctor")
    assert result.exit_code == 0
    assert "did you mean CELERY_CASCADE_DATABASE_URL?" in result.stdout
    assert result.stderr == ""
    # Every other verb says so too: it looks at another store than was meant.
    assert project.run("ls").stderr.count("Warning: CELERY_CASCADE_DATABSE_URL is in the environment but is not") == 1


def test_a_queue_of_our_workers_counts_as_ours_whatever_its_name(project, monkeypatch: pytest.MonkeyPatch) -> None:
    """R158: not the default queue only."""
    consumed = {"celery@stranger": [{"name": "payments"}, {"name": "theirs"}], "celery@ours": [{"name": "payments"}]}
    monkeypatch.setattr(checks, "_consumers", lambda app: consumed)
    ours = WorkerRow(id="w", nodename="celery@ours", host="h", pid=1, queues='["payments"]')
    (found,) = checks.queues(project.runtime, [ours])
    assert "queue 'payments' is also consumed by celery@stranger" in found.message
