"""R10, R22, R132 at the command line: fork, rerun, tree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from cli.kit import ORDER, Project, commands_in, id_in


def steps_of(project: Project, session: str) -> dict[str, str]:
    shown = project.json("show", session)["session"]
    return {
        step["step"]: step["status"] + (f" ({step['reason']})" if step["reason"] else "") for step in shown["steps"]
    }


def test_a_fork_says_its_id_and_what_it_keeps_and_waits_for_a_worker(project: Project) -> None:
    """R132."""
    origin = project.ended()

    result = project.run("fork", origin, "--at", "two", "--detach", "--reason", "what if")

    assert result.exit_code == 0, result.output
    made = result.stdout.strip()
    assert id_in(result.stderr) == made
    assert f"It keeps 1 finished step of session {origin}." in result.stderr
    assert steps_of(project, made) == {"one": "succeeded (kept)", "two": "queued"}
    done = project.run("resume", made, "--local")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"sum": 12, "word": "none"})
    assert "one" not in done.stderr, "what it has kept it has not run"
    words = project.run("show", made).stdout
    assert f"Fork of   {origin} at two" in words
    assert "succeeded (kept)" in words
    assert re.search(r"fork by \w+: what if", words)
    assert project.json("ls")["sessions"][0]["forked_from"] == origin


def test_a_fork_takes_inputs_as_run_does(project: Project) -> None:
    """R132: text stays text where the cascade says that it is; the other inputs stay as they were."""
    origin = project.ended()
    (project.folder / "in.json").write_text('{"word": "file"}')

    given = project.json("fork", origin, "--at", "one", "-i", "word=7", "--session", "with-7", "--detach")
    by_file = project.json("fork", origin, "--at", "one", "--inputs", "in.json", "--detach", "--name", "by file")

    assert given["session"]["session_id"] == "with-7"
    assert given["session"]["inputs"] == {"n": 1, "word": "7"}
    assert by_file["session"]["inputs"] == {"n": 1, "word": "file"}
    assert (by_file["session"]["name"], by_file["session"]["forked_step"]) == ("by file", "one")


def test_a_dry_run_lists_the_steps_and_writes_nothing(project: Project) -> None:
    """R132."""
    origin = project.ended()

    words = project.run("fork", origin, "--at", "two", "--dry-run")
    plan = project.json("fork", origin, "--at", "two", "-i", "n=5", "--dry-run")["fork"]

    assert [line.split() for line in words.stdout.splitlines()] == [["one", "kept"], ["two", "runs"]]
    assert "nothing was written" in words.stderr
    assert (plan["kept"], plan["runs"], plan["inputs"]["n"], plan["forked_from"]) == (["one"], ["two"], 5, origin)
    assert project.json("ls")["count"] == 1


def test_the_edited_file_is_forked_in_one_step(project: Project) -> None:
    """D7."""
    origin = project.ended()
    (project.folder / "order.yaml").write_text(ORDER.replace("y: 10", "y: 100"))

    plan = project.run("fork", origin, "--at", "two", "--use-current-definition", "--dry-run")
    assert plan.stdout.split() == ["one", "kept", "two", "runs"]
    made = project.json("fork", origin, "--at", "two", "--use-current-definition", "--detach")["session"]

    assert project.run("resume", made["session_id"], "--local").exit_code == 0
    assert project.json("show", made["session_id"])["session"]["output"]["sum"] == 102
    assert "y: 100" in project.run("definition", made["session_id"]).stdout
    told = project.run("fork", made["session_id"], "--at", "two", "--definition", "broken.yaml", "--dry-run")
    assert told.exit_code == 2
    assert "no step 'two' any more in this definition" in told.stderr


def test_a_failed_run_is_forked_from_its_failure(project: Project) -> None:
    """R132."""
    failed = project.ended("broken.yaml")
    (project.folder / "go").touch()

    result = project.run("fork", "@last-failed", "--from-failure", "--detach")

    made = result.stdout.strip()
    assert steps_of(project, made) == {"before": "succeeded (kept)", "boom": "queued"}
    assert project.json("show", made)["session"]["forked_from"] == failed


def test_a_rerun_runs_what_is_stored_although_the_file_is_gone(project: Project) -> None:
    """R22."""
    origin = project.ended()
    (project.folder / "order.yaml").unlink()

    again = project.json("rerun", origin, "--session", "again-1", "--detach")["session"]

    first = project.json("show", origin)["session"]
    same = ("inputs", "definition_sha256", "config_path", "cascade_id")
    assert [again[name] for name in same] == [first[name] for name in same]
    assert (again["forked_from"], again["trigger"], again["session_id"]) == (origin, "rerun", "again-1")
    assert project.run("resume", "again-1", "--local").exit_code == 0
    assert f"Rerun of  {origin}" in project.run("show", "again-1").stdout


def test_a_fork_and_a_rerun_run_in_this_terminal_without_a_worker(project: Project) -> None:
    """R132, R22, D8: `--local` is for every verb that sets a session going, and as durable."""
    origin = project.ended()

    forked = project.run("fork", origin, "--at", "two", "-i", "n=5", "--local", "--session", "here-1")
    anew = project.run("rerun", origin, "--local")

    assert (forked.exit_code, json.loads(forked.stdout)["sum"]) == (0, 12)
    assert "It keeps 1 finished step" in forked.stderr
    assert "two succeeded" in forked.stderr
    assert "one succeeded" not in forked.stderr
    assert (anew.exit_code, json.loads(anew.stdout)["sum"]) == (0, 12)
    assert "one succeeded" in anew.stderr
    for verb in (["fork", origin, "--at", "two"], ["rerun", origin]):
        refused = project.run(*verb, "--local", "--detach")
        assert refused.exit_code == 2
        assert "--local runs here until the end" in refused.stderr
    assert project.json("ls")["count"] == 3


def test_an_eager_app_follows_a_fork_to_its_end(make_project: Callable[..., Project]) -> None:
    project = make_project(task_always_eager=True)
    origin = project.ended()

    for verb in (["fork", origin, "--at", "two"], ["rerun", origin]):
        result = project.run(*verb)
        assert (result.exit_code, json.loads(result.stdout)["sum"]) == (0, 12), result.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fork", "ORIGIN", "--at", "tow"], 2, "no step 'tow'; did you mean 'two'?"),
        (["fork", "ORIGIN"], 4, "every step of it has ended well"),
        (["fork", "ORIGIN", "--from-failure"], 4, "no step of it has failed"),
        (["fork", "WAITING", "--at", "two"], 4, "step 'two' is pending"),
        (["fork", "ORIGIN", "--at", "one", "-i", "n=x"], 6, "'n' must be integer"),
        (["fork", "ORIGIN", "--at", "one", "-i", "m=1"], 6, "no input 'm'"),
        (["fork", "ORIGIN", "--at", "one", "--context", "n"], 2, "--context 'n' has no value"),
        (["fork", "ORIGIN", "--at", "one", "--definition", "wrong.yaml"], 6, "wrong.yaml"),
        (["fork", "ORIGIN", "--at", "one", "--definition", "nowhere.yaml"], 3, "nowhere.yaml"),
        (["fork", "ORIGIN", "--definition", "order.yaml", "--use-current-definition"], 2, "different definitions"),
        (["fork", "ORIGIN", "--at", "one", "--session", "ORIGIN"], 4, "exists already"),
        (["fork", "nobody-1"], 3, "Session 'nobody-1' not found"),
        (["rerun", "nobody-1"], 3, "Session 'nobody-1' not found"),
        (["rerun", "ORIGIN", "--session", "ORIGIN"], 4, "exists already"),
        (["tree", "nobody-1"], 3, "Session 'nobody-1' not found"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(project: Project, arguments: list[str], code: int, said: str) -> None:
    """R132, R150: each with its exit code, and nothing is written."""
    names = {"ORIGIN": project.ended(), "WAITING": project.started()}
    (project.folder / "wrong.yaml").write_text("cascade: c\nsteps:\n  - {id: one, task: shop.ad}\n")

    result = project.run(*(names.get(word, word) for word in arguments))

    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert project.json("ls")["count"] == 2


def test_a_fork_of_a_session_in_doubt_says_what_may_be_done_twice(project: Project) -> None:
    """R132, `on_crash: ask`: nobody charges a card again without having been told."""
    origin = project.in_doubt()

    looked = project.run("fork", origin, "--dry-run")
    data = project.json("fork", origin, "--dry-run")
    done = project.run("fork", origin, "--detach")

    assert "one  runs, although it may have done its work already (in_doubt)" in looked.stdout
    assert data["fork"]["in_doubt"] == ["one"]
    assert "Step one is in doubt there: it may have done its work already. Here it runs again." in done.stderr
    file = project.folder / "order.yaml"
    file.write_text(file.read_text() + "# edited\n")
    edited = project.run("run", "order.yaml", "--resume", origin, "--use-current-definition", "--detach")
    assert "Step one is in doubt there" in edited.stderr, "by whichever verb"
    sure = project.ended()
    assert "doubt" not in project.run("fork", sure, "--at", "one", "--detach").stderr
    assert project.json("fork", sure, "--at", "one", "--dry-run")["fork"]["in_doubt"] == []


def test_the_hints_of_a_refused_fork_work(project: Project) -> None:
    """R150."""
    origin = project.ended()
    hints = commands_in(project.run("fork", origin).stderr)

    assert [hint[0] for hint in hints] == ["fork", "rerun"]
    for hint in hints:
        assert project.run(*hint, "--detach").exit_code == 0


def test_the_tree_shows_forks_reruns_and_forks_of_forks_from_wherever_it_is_asked(project: Project) -> None:
    """R10, R132."""
    project.run("run", "order.yaml", "-i", "n=1", "--local", "--session", "top-1")
    project.run("fork", "top-1", "--at", "two", "--detach", "--session", "fork-1")
    project.run("rerun", "top-1", "--detach", "--session", "rerun-1")
    project.run("rerun", "fork-1", "--detach", "--session", "rerun-2")
    project.ended()

    for asked in ("top-1", "rerun-2"):
        lines = [line.partition("  order")[0] for line in project.run("tree", asked).stdout.splitlines()]
        assert lines == ["top-1", "├─ fork-1", "│  └─ rerun-2", "└─ rerun-1"]
    assert "fork at two" in project.run("tree", "top-1").stdout
    top = project.json("tree", "fork-1")["tree"]
    assert [(one["session_id"], one["relation"], one["step"]) for one in top["below"]] == [
        ("fork-1", "fork", "two"),
        ("rerun-1", "rerun", None),
    ]
    assert top["below"][0]["below"][0]["session_id"] == "rerun-2"
    project.run("rm", "top-1")
    assert project.json("tree", "rerun-2")["tree"]["session_id"] == "fork-1"


def test_a_refused_fork_with_another_definition_says_so_and_its_commands_keep_it(project: Project) -> None:
    """R132, R150: what is missing is a step of that definition; the session itself may have failed."""
    result = project.run("run", "broken.yaml", "--local", "--session", "was-broken")
    assert result.exit_code == 1
    shorter = "cascade: broken\nsteps:\n  - {id: before, task: shop.echo, with: {value: 1}}\n"
    (project.folder / "broken.yaml").write_text(shorter)
    (project.folder / "other.yaml").write_text(shorter)
    for given in (["--use-current-definition"], ["--definition", "other.yaml"]):
        refused = project.run("fork", "was-broken", *given)
        assert refused.exit_code == 4
        assert "every step that this definition has has ended well there" in refused.stderr
        (command,) = commands_in(refused.stderr)
        assert command[:5] == ["fork", "was-broken", "--at", "before", given[0]]
        assert project.run(*command, "--dry-run").exit_code == 0


def test_a_step_that_only_the_other_definition_has_is_no_place_to_fork_at(project: Project) -> None:
    """R132, R150."""
    origin = project.ended("broken.yaml")
    with (project.folder / "broken.yaml").open("a") as file:
        file.write("  - {id: new, task: shop.echo, with: {value: 2}}\n")
    refused = project.run("fork", origin, "--at", "new", "--use-current-definition")
    assert refused.exit_code == 4
    assert (
        "step 'new' is new in this definition; a fork begins at a step that has ended: before, boom" in refused.stderr
    )
    for command in commands_in(refused.stderr):
        assert command[-1] == "--use-current-definition"
        assert project.run(*command, "--dry-run").exit_code == 0, command
