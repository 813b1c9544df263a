"""The line `recovery` of `doctor`: how well it works, and who is left alone."""

from __future__ import annotations

from typing import Any

from celery_cascade.persistence.rows import StepKey, WorkerRow
from cli.kit import Project


def check_of(project: Project) -> dict[str, Any]:
    (found,) = [check for check in project.json("doctor")["checks"] if check["name"] == "recovery"]
    return found


def worker(project: Project, worker_id: str) -> None:
    project.runtime.store.add_worker(WorkerRow(id=worker_id, nodename=f"{worker_id}@h", host="x", pid=1, pool="solo"))


def claim(project: Project, session_id: str, worker_id: str, attempt: int = 1) -> None:
    key = StepKey(session_id, "one")
    store = project.runtime.store
    assert store.claim(key, attempt=attempt, token=f"{worker_id}{attempt}", worker=worker_id, runner="r") is not None


def test_where_nothing_crashed_it_says_so(project: Project) -> None:
    found = check_of(project)
    assert (found["state"], found["message"]) == (
        "ok",
        "no crashed step was resumed in the last 24 h; no session without an owner",
    )
    assert found["figures"] == {
        "hours": 24, "resumed": 0, "median_seconds": None, "worst_seconds": None, "waiting": 0, "fenced": 0,
        "ownerless_sessions": 0,
    }  # fmt: skip
    assert all("figures" not in check for check in project.json("doctor")["checks"] if check["name"] != "recovery")


def test_a_session_that_nobody_runs_is_a_warning_with_the_next_command(project: Project) -> None:
    """D2."""
    project.started()
    found = check_of(project)
    assert found["state"] == "warning"
    assert found["message"].endswith("1 active session without an owner")
    assert found["hint"].startswith(f"Start a worker with: celery -A {project.name} worker")
    assert project.run("doctor").exit_code == 0


def test_crashes_late_writers_and_forsaken_sessions_are_counted(project: Project) -> None:
    store = project.runtime.store
    resumed, waits, forsaken = project.started(), project.started(), project.started()
    worker(project, "gone")
    for session_id in (resumed, waits, forsaken):
        claim(project, session_id, "gone")
    for orphan in store.running_on("gone"):
        if orphan.key.session_id != forsaken:
            assert store.release(orphan, error=None)
            assert store.note_fenced(orphan.key, 1)
    store.stop_worker("gone")
    worker(project, "alive")
    claim(project, resumed, "alive", attempt=2)
    found = check_of(project)
    assert found["state"] == "warning"
    first, second, third, fourth = found["message"].split("; ")
    assert first.startswith("1 crashed attempt of the last 24 h resumed after 0.")
    assert first.endswith(" s at worst")
    assert second == "1 crashed attempt not resumed yet"
    assert third == "2 late writers refused"
    assert fourth == "1 active session without an owner"
    assert "cascade_heartbeat_timeout" in found["hint"]
    assert (found["figures"]["resumed"], found["figures"]["waiting"], found["figures"]["fenced"]) == (1, 1, 2)
