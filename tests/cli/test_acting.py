"""`resume` and `cancel`."""

from __future__ import annotations

import json

from cli.kit import Project, commands_in


def test_resume_of_a_failed_session_goes_on_from_its_last_checkpoint(project: Project) -> None:
    session_id = project.ended("broken.yaml")
    (project.folder / "go").touch()
    result = project.run("resume", "@last-failed", "--local")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == "mended"
    steps = {step["step"]: step for step in project.json("show", session_id)["session"]["steps"]}
    assert (steps["before"]["attempt"], steps["boom"]["attempt"]) == (1, 3)


def test_resume_queues_steps_prints_the_id_and_keeps_who_and_why(project: Project) -> None:
    session_id = project.ended("broken.yaml")
    result = project.run("resume", session_id, "--reason", "mended it")
    assert result.exit_code == 0
    assert result.stdout == session_id + "\n"
    assert "1 step queued" in result.stderr
    assert project.runtime.store.head(session_id)["status"] == "active"
    (action,) = project.runtime.store.actions(session_id)
    assert (action["action"], action["reason"]) == ("resume", "mended it")
    assert action["actor"]


def test_resume_of_an_active_session_changes_nothing(project: Project) -> None:
    session_id = project.started()
    version = project.runtime.store.head(session_id)["version"]
    result = project.run("resume", session_id)
    assert result.exit_code == 0
    assert "active already" in result.stderr
    assert project.runtime.store.head(session_id)["version"] == version


def test_resume_of_what_has_ended_for_good_exits_5_with_the_reason(project: Project) -> None:
    """R150."""
    for session_id, status in ((project.ended(), "completed"), (project.started(), "cancelled")):
        if status == "cancelled":
            assert project.run("cancel", session_id).exit_code == 0
        result = project.run("resume", session_id)
        assert result.exit_code == 5
        assert f"session {session_id} is {status}" in result.stderr
        assert all(project.run(*command).exit_code == 0 for command in commands_in(result.stderr))


def test_resume_in_json_prints_the_session(project: Project) -> None:
    session_id = project.ended("broken.yaml")
    assert project.json("resume", session_id)["session"]["status"] == "active"
    assert project.json("resume", "nope", code=3)["error"]["type"] == "SessionNotFound"


def test_resume_watched_ends_as_the_session_does(project: Project) -> None:
    project.ended("broken.yaml")
    assert project.run("resume", "@last", "--watch", "--timeout", "200ms").exit_code == 124


def test_cancel_ends_a_session_and_keeps_the_reason(project: Project) -> None:
    session_id = project.started()
    result = project.run("cancel", session_id, "--reason", "wrong order")
    assert (result.exit_code, result.stdout) == (0, session_id + "\n")
    session = project.json("show", session_id)["session"]
    assert (session["status"], session["reason"]) == ("cancelled", "wrong order")


def test_cancel_of_what_has_ended_is_a_conflict(project: Project) -> None:
    session_id = project.ended()
    result = project.run("cancel", session_id)
    assert result.exit_code == 4
    assert f"session {session_id} is completed" in result.stderr
    assert project.json("cancel", session_id, code=4)["error"]["type"] == "SessionConflict"


def test_cancel_in_json_prints_the_session(project: Project) -> None:
    assert project.json("cancel", project.started())["session"]["status"] == "cancelled"
