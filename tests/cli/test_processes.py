"""The command line as people meet it: processes, a worker, Ctrl+C, a pipe that closes, a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.kit import Project, id_in, until

pytestmark = pytest.mark.integration


@contextmanager
def worker(project: Project) -> Iterator[subprocess.Popen[str]]:
    log = (project.folder / "worker.log").open("w")
    command = [sys.executable, "-m", "celery", "-A", project.name, "worker", "-P", "solo", "-l", "INFO"]
    process = project.popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        log.close()


@pytest.mark.parametrize(
    "broker",
    [pytest.param("redis", marks=pytest.mark.redis), pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)],
)
def test_doctor_names_the_queue_that_another_store_shares(
    make_project, request: pytest.FixtureRequest, broker: str
) -> None:
    """R158."""
    settings = {"broker_url": request.getfixturevalue(f"{broker}_url"), "worker_enable_remote_control": True}
    mine, other = make_project(**settings), make_project(cascade_home="other", **settings)
    with worker(other):
        until(lambda: bool(other.runtime.store.running_workers()))
        until(lambda: "queue" in [check["name"] for check in mine.json("doctor")["checks"]])
        (found,) = [check for check in mine.json("doctor")["checks"] if check["name"] == "queue"]
        assert found["state"] == "warning"
        assert "queue 'celery' is also consumed by celery@" in found["message"]
        assert "queue" not in [check["name"] for check in other.json("doctor")["checks"]]


def test_a_worker_without_its_store_exits_7_or_runs_plain_tasks_if_it_may(make_project, tmp_path) -> None:
    """R15, D4: a store that was never migrated, met by real workers."""
    own = {"cascade_database_url": f"sqlite:///{tmp_path / 'own.sqlite'}"}
    with worker(make_project(**own)) as strict:
        assert strict.wait(timeout=60) == 7
    assert "this worker does not start: the store" in (tmp_path / "worker.log").read_text()
    lax = make_project(cascade_store_required=False, **own)
    with worker(lax) as process:
        sent = lax.start("run", "sleepy.yaml", "-i", "seconds=0")
        out, words = sent.communicate(timeout=60)
        assert (sent.returncode, "tasks run plain" in words) == (0, True), words
        log = tmp_path / "worker.log"
        until(lambda: f"celery_cascade.run_plain[{out.strip()}] succeeded" in log.read_text(), 60)
        assert process.poll() is None
    assert log.read_text().count("tasks run plain") == 1


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def status(project: Project, session_id: str) -> str:
    return project.runtime.store.head(session_id)["status"]


@pytest.mark.parametrize("celery", [True, False])
def test_the_group_is_reached_through_celery_and_by_itself(project: Project, celery: bool) -> None:
    """`celery -A proj cascade …` and `cascade -A proj …` are one group; hints name the one that was used."""
    process = project.start("show", "nothere", celery=celery)
    out, words = process.communicate(timeout=60)
    assert (process.returncode, out) == (3, "")
    called = "celery -A {} cascade ls" if celery else "celery_cascade.cli -A {} ls"
    assert called.format(project.name) in words


def test_celery_without_an_app_is_not_taken_for_an_app(project: Project) -> None:
    """Celery falls back to an app called "default" and says nothing; we say what to do and exit 2."""
    process = project.popen([sys.executable, "-m", "celery", "cascade", "ls"], env={"CELERY_APP": ""})
    _, words = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "no Celery app is named" in words


def test_the_app_of_the_environment_is_taken_by_celery_too(project: Project) -> None:
    command = [sys.executable, "-m", "celery", "cascade", "ls"]
    process = project.popen(command, env={"CELERY_APP": project.name})
    assert process.communicate(timeout=60)[1] == "No sessions.\n"
    assert process.returncode == 0


def test_a_watched_run_waits_for_a_worker_follows_it_and_prints_the_output(project: Project) -> None:
    """D8: with no living worker it says so, with both ways out, within 3 seconds of its start, imports included."""
    for _ in range(6):  # what counts is the program, not what else the machine has to do
        began = time.monotonic()
        process = project.start("run", "order.yaml", "-i", "n=1")
        session_id = id_in(first_line(process))
        why, worker_command, _, local_command = (first_line(process).strip() for _ in range(4))
        took = time.monotonic() - began
        if took < 3:
            break
        process.kill()
        process.communicate()
    assert took < 3
    assert why == "There is no living worker; the session is stored and waits for one. Start a worker:"
    assert worker_command == f"celery -A {project.name} worker"
    assert local_command.endswith(f"-A {project.name} cascade resume {session_id} --local")
    with worker(project):
        out, words = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out) == {"sum": 12, "word": "none"}
    lines = words.splitlines()
    assert any("one succeeded (attempt 1, " in line for line in lines)
    assert any("two succeeded (attempt 1, " in line for line in lines)
    assert lines[-1] == f"Session {session_id} is completed."


def test_ctrl_c_of_a_watched_run_leaves_it_running_and_says_so(project: Project) -> None:
    """D8: exit 130, and the command that watches it works."""
    with worker(project):
        until(lambda: bool(project.runtime.store.running_workers()))
        process = project.start("run", "sleepy.yaml", "-i", "seconds=1.5")
        session_id = id_in(first_line(process))
        assert "first running" in first_line(process)
        process.send_signal(signal.SIGINT)
        out, words = process.communicate(timeout=20)
        assert (process.returncode, out) == (130, "")
        assert f"session {session_id} goes on" in words
        assert f"Watch it with: {'python -m celery'} -A {project.name} cascade watch {session_id}" in words
        watching = project.start("watch", session_id)
        assert json.loads(watching.communicate(timeout=30)[0]) == "end"
        assert watching.returncode == 0


def test_ctrl_c_of_a_local_run_suspends_it_after_the_step_and_says_how_to_go_on(project: Project) -> None:
    """D8."""
    process = project.start("run", "sleepy.yaml", "--local", "-i", "seconds=1.5")
    session_id = id_in(first_line(process))
    assert "first running" in first_line(process)
    process.send_signal(signal.SIGINT)
    out, words = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "first succeeded" in words
    assert "second" not in words
    assert f"cascade resume {session_id} --local" in words
    assert status(project, session_id) == "suspended"
    assert project.run("resume", session_id, "--local").exit_code == 0


def test_a_session_that_another_terminal_runs_is_just_active(project: Project) -> None:
    """D2: `no living worker` is said only where it is so."""
    waits = project.started()
    process = project.start("run", "sleepy.yaml", "--local", "-i", "seconds=3")
    session_id = id_in(first_line(process))
    assert "first running" in first_line(process)
    reasons = {one["session_id"]: one["reason"] for one in project.json("ls")["sessions"]}
    assert reasons[session_id] is None
    assert reasons[waits].startswith("no living worker")
    process.communicate(timeout=20)


def test_a_second_ctrl_c_stops_at_once_and_the_step_runs_again_later(project: Project) -> None:
    process = project.start("run", "sleepy.yaml", "--local", "-i", "seconds=60")
    session_id = id_in(first_line(process))
    assert "first running" in first_line(process)
    process.send_signal(signal.SIGINT)
    assert "Ctrl+C again" in first_line(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert status(project, session_id) != "completed"


def test_a_reader_that_closes_the_pipe_is_no_error_to_read_about(project: Project) -> None:
    for _ in range(3):
        project.started()
    command = f"{sys.executable} -m celery_cascade.cli -A {project.name} definition @last --raw | head -c 3"
    process = project.popen(["sh", "-c", command])
    assert process.communicate(timeout=60) == ("# h", "")


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "local"])
def test_sigterm_is_told_as_ctrl_c_is(project: Project, watched: bool) -> None:
    """D8: a supervisor's word: a watched run goes on, a local one suspends after its step."""
    args = ["run", "sleepy.yaml", "-i", "seconds=1.5", *([] if watched else ["--local"])]
    process = project.start(*args)
    session_id = id_in(first_line(process))
    said = first_line(process)
    assert ("no living worker" if watched else "first running") in said
    process.send_signal(signal.SIGTERM)
    out, words = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    if watched:
        assert f"session {session_id} goes on" in words
        assert status(project, session_id) == "active"
    else:
        assert "SIGTERM again stops at once" in words
        assert "first succeeded" in words
        assert f"cascade resume {session_id} --local" in words
        assert status(project, session_id) == "suspended"
        (action,) = project.json("show", session_id)["session"]["actions"]
        assert (action["action"], action["reason"]) == ("suspend", "SIGTERM")


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_terminals_that_want_it(project: Project, env: dict[str, str], coloured: bool) -> None:
    """https://no-color.org; a pipe never has any."""
    project.ended()
    assert ("\x1b[" in on_a_terminal(project, env, "ls")) is coloured
    process = project.start("ls", env=env)
    assert "\x1b[" not in process.communicate(timeout=60)[0]


def on_a_terminal(project: Project, env: dict[str, str], *args: str) -> str:
    ours, theirs = pty.openpty()
    process = project.start(*args, stdout=theirs, stderr=theirs, env={"TERM": "xterm", "COLUMNS": "160", **env})
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            break
        text += part
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return text.decode()


def test_tables_are_plain_where_rich_is_not_installed(project: Project) -> None:
    """The extra `cli` is optional."""
    session_id = project.ended()
    (project.folder / "rich.py").write_text("raise ModuleNotFoundError('rich')\n")
    path = f"{project.folder}{os.pathsep}{project.environment()['PYTHONPATH']}"
    text = on_a_terminal(project, {"PYTHONPATH": path}, "ls")
    assert session_id in text
    assert "completed" in text
