"""`resume --done`, `--again` and `--skip`, and where a session that waits for them says so (R85, R150)."""

from __future__ import annotations

import pytest

from cli.kit import Project, commands_in

DOUBT = """\
cascade: doubt
steps:
  - {id: left, task: shop.echo, needs: []}
  - {id: right, task: shop.echo, needs: []}
  - {id: both, task: shop.echo, needs: [left, right], with: {value: "{{ outputs.left }}"}}
"""


def state(project: Project, session_id: str) -> dict:
    return project.json("show", session_id)["session"]


def test_done_keeps_the_value_who_and_why_and_the_session_goes_on(project: Project) -> None:
    session_id = project.in_doubt()
    result = project.run("resume", session_id, "--done", "41", "--reason", "seen at the bank")
    assert (result.exit_code, result.stdout) == (0, session_id + "\n")
    assert f"Session {session_id} goes on: 1 step queued." in result.stderr
    (action,) = state(project, session_id)["actions"]
    assert (action["reason"], action["detail"]) == (
        "seen at the bank", {"step": "one", "answer": "done", "attempt": 1, "value": 41},
    )  # fmt: skip
    assert action["actor"]
    shown = project.run("show", session_id).stdout
    assert "resume (step one: done 41) by " in shown
    assert ": seen at the bank" in shown
    assert project.run("resume", session_id, "--local").exit_code == 0
    assert state(project, session_id)["output"] == {"sum": 51, "word": "none"}


def test_again_and_skip_run_to_the_end_here(project: Project) -> None:
    for way, step in (("--again", ("succeeded", None)), ("--skip", ("skipped", "operator"))):
        session_id = project.in_doubt()
        assert project.run("resume", session_id, way, "--local").exit_code == 0
        first = state(project, session_id)["steps"][0]
        assert (first["status"], first["reason"]) == step


def test_a_resume_without_an_answer_exits_5_with_commands_that_work(project: Project) -> None:
    """R150: each of the three can be pasted; RESULT as it stands is refused, or it would be the checkpoint for good."""
    for number, way in enumerate(("--done", "--again", "--skip")):
        session_id = project.in_doubt()
        result = project.run("resume", session_id)
        assert result.exit_code == 5
        assert f"Error: session {session_id} is in doubt: step 'one' lost its worker" in result.stderr
        command = commands_in(result.stderr)[number]
        assert way in command
        if way == "--done":
            refused = project.run(*command)
            assert (refused.exit_code, "--done RESULT: this is not JSON" in refused.stderr) == (6, True)
            assert state(project, session_id)["status"] == "suspended"
            command[command.index("RESULT")] = "null"
        assert project.run(*command).exit_code == 0
        assert state(project, session_id)["status"] != "suspended"
    assert project.json("resume", project.in_doubt(), code=5)["error"]["type"] == "NotResumable"


def test_show_names_the_step_what_happened_and_the_three_commands(project: Project) -> None:
    session_id = project.in_doubt()
    shown = project.run("show", session_id).stdout
    assert "Status    suspended, in_doubt" in shown
    assert "Step one (in_doubt): attempt 1 began " in shown
    assert "and lost its worker " in shown
    assert "its crashes so far: 1." in shown
    assert "WorkerLost: worker gone died while it ran the step" in shown
    assert [" ".join(command) for command in commands_in(shown)] == [
        f"resume {session_id} --done RESULT", f"resume {session_id} --again", f"resume {session_id} --skip",
    ]  # fmt: skip
    (waits,) = state(project, session_id)["waits_for"]
    assert (waits["step"], waits["reason"], waits["attempt"], waits["crashes"]) == ("one", "in_doubt", 1, 1)
    listed = project.run("ls").stdout
    assert "suspended, in_doubt" in listed


def test_watch_and_a_run_here_end_with_the_commands_and_exit_8(project: Project) -> None:
    session_id = project.in_doubt()
    result = project.run("watch", session_id)
    assert result.exit_code == 8
    assert "It waits (in_doubt): a step lost its worker and may or may not have done its work." in result.stderr
    assert ["resume", session_id, "--again"] in commands_in(result.stderr)


def test_of_several_steps_one_has_to_be_named(project: Project) -> None:
    (project.folder / "doubt.yaml").write_text(DOUBT)
    session_id = project.run("run", "doubt.yaml", "--detach").stdout.strip()
    project.lose(session_id, "left", "right")
    result = project.run("resume", session_id, "--again")
    assert result.exit_code == 2
    assert "2 steps wait for an answer: left, right; say which one is meant" in result.stderr
    assert ["resume", session_id, "--step", "left", "--again"] in commands_in(result.stderr)
    result = project.run("resume", session_id, "--step", "left", "--done", '"x"')
    assert result.exit_code == 0
    assert f"The answer is kept. Session {session_id} is suspended." in result.stderr
    assert "Step right (in_doubt)" in result.stderr
    result = project.run("resume", session_id, "--done", "null", "--local")
    assert (result.exit_code, result.stdout) == (0, '"x"\n')


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--done", "{paid}"), 6, "this is not JSON"),
        (("--done", "NaN"), 6, "NaN is no JSON"),
        (("--done", "1", "--skip"), 2, "done, skip are different answers"),
        (("--step", "one"), 2, "not what became of it"),
        (("--step", "two", "--skip"), 4, "step 'two' does not wait for an answer"),
    ],
)
def test_what_makes_no_sense_is_told_and_changes_nothing(
    project: Project, options: tuple[str, ...], code: int, words: str
) -> None:
    session_id = project.in_doubt()
    before = state(project, session_id)
    result = project.run("resume", session_id, *options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert state(project, session_id) == before


def test_a_second_answer_is_a_conflict(project: Project) -> None:
    session_id = project.in_doubt()
    assert project.run("resume", session_id, "--again").exit_code == 0
    result = project.run("resume", session_id, "--again")
    assert result.exit_code == 4
    assert f"session {session_id}: no step of it waits for an answer" in result.stderr


def test_a_poisoned_session_can_be_answered_or_simply_resumed(make_project) -> None:
    project: Project = make_project(cascade_max_crashes=1)
    for options in ((), ("--again",), ("--skip",), ("--done", "1")):
        session_id = project.in_doubt(on_crash=None)
        shown = project.run("show", session_id).stdout
        assert "suspended, poisoned" in shown
        assert ["resume", session_id] in commands_in(shown)
        assert project.run("resume", session_id, *options).exit_code == 0
        assert state(project, session_id)["status"] != "suspended"


def test_doctor_counts_the_sessions_that_wait_for_an_operator(project: Project) -> None:
    assert "waiting for an operator" not in project.run("doctor").stdout
    ids = [project.in_doubt() for _ in range(6)]
    result = project.run("doctor")
    assert "6 sessions waiting for an operator: " in result.stdout
    assert f"{ids[-1]} (in_doubt)" in result.stdout
    assert ", and 1 more" in result.stdout
    assert ["show", ids[-1]] in commands_in(result.stdout)
    (check,) = [one for one in project.json("doctor")["checks"] if one["name"] == "waiting"]
    assert check["state"] == "warning"
