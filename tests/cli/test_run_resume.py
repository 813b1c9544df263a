"""`cascade run FILE… --resume`: nobody needs to remember an id."""

from __future__ import annotations

import json
import os
import re
import signal
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result

from celery_cascade.cli import going_on
from celery_cascade.persistence.rows import StepKey
from celery_cascade.tasks.local_worker import local_worker
from cli.kit import BROKEN, Project, commands_in, id_in


def failed(project: Project, *args: str) -> str:
    """A run that has failed after its first checkpoint; with a file `go` in the folder it would come through."""
    return project.ended("broken.yaml", *args)


def ids(project: Project) -> list[str]:
    return [one["session_id"] for one in project.json("ls")["sessions"]]


def session_in(result: Result) -> str:
    """The session that a run went on with."""
    found = re.search(r"^(?:Found previous session|Resuming explicit session): (\S+)$", result.stderr, re.MULTILINE)
    assert found, result.stderr
    return found[1]


# -- the last one of these files
def test_a_bare_resume_goes_on_under_the_same_id_and_repeats_nothing(project: Project) -> None:
    """R59, R69, R72."""
    session_id = failed(project)
    (project.folder / "go").touch()
    result = project.run("run", "broken.yaml", "--resume", "--local")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == "mended"
    number = project.cascades.session(session_id).checkpoints[0]["number"]
    lines = result.stderr.splitlines()
    assert lines[:7] == [
        f"Found previous session: {session_id}",
        f"Found program checkpoint: {session_id}_ckpt_{number}",
        f"Session: {session_id}",
        "Steps to restore: ['before']",
        f"before restored from {session_id}_ckpt_{number}",
        "Program restored successfully",
        "1/1 step restored.",
    ]
    assert not any(" before " in line for line in lines[7:]), "what was done before is not told again"
    assert ids(project) == [session_id], "no new session"
    attempts = {step["step"]: step["attempt"] for step in project.cascades.session(session_id).steps}
    assert attempts["before"] == 1


def test_of_several_runs_the_last_one_goes_on_and_an_older_one_by_its_id(project: Project) -> None:
    """R65: three runs A, B, C -> C; --resume A -> A."""
    first, middle, last = failed(project), failed(project), failed(project)
    (project.folder / "go").touch()
    assert session_in(project.run("run", "broken.yaml", "--resume", "--local")) == last
    result = project.run("run", "broken.yaml", "--resume", middle, "--local")
    assert result.exit_code == 0
    assert result.stderr.startswith(f"Resuming explicit session: {middle}\nFound program checkpoint: {middle}_ckpt_")
    status = {one: project.cascades.session(one).status for one in (first, middle, last)}
    assert status == {first: "failed", middle: "completed", last: "completed"}


@pytest.mark.parametrize(
    "line", ["--resume {}", "{} --resume", "--resume -i n=1 {}", "{} --resume -i n=1", "-i n=1 {} --resume"]
)
def test_the_file_is_never_taken_for_the_id(project: Project, line: str) -> None:
    """R61."""
    session_id = project.started()
    result = project.run("run", "--detach", *line.format("order.yaml").split())
    assert (result.exit_code, result.stdout) == (0, f"{session_id}\n"), result.stderr


@pytest.mark.parametrize(
    "line",
    ["--resume {} order.yaml", "order.yaml --resume {}", "--resume={} order.yaml", "--resume {} -i n=1 order.yaml"],
)
def test_an_id_is_taken_wherever_it_stands(project: Project, line: str) -> None:
    """R60, R61; the beginning of it is enough."""
    session_id, _ = project.started(), project.started()
    for word in (session_id, session_id[:8]):
        result = project.run("run", "--detach", *line.format(word).split())
        assert (result.exit_code, result.stdout) == (0, f"{session_id}\n"), result.stderr


def test_the_way_a_file_is_written_makes_no_difference(project: Project) -> None:
    """R62, R68: relative, absolute, through a link, twice, edited."""
    session_id = project.started()
    (project.folder / "other").mkdir()
    (project.folder / "link.yaml").symlink_to(project.folder / "order.yaml")
    (project.folder / "linked").symlink_to(project.folder / "other")
    ways = [
        "./order.yaml",
        str(project.folder / "order.yaml"),
        "other/../order.yaml",
        "link.yaml",
        "linked/../order.yaml",
    ]
    for way in ways:
        assert project.run("run", way, "--resume", "--detach").stdout == f"{session_id}\n", way
    assert project.run("run", "order.yaml", "link.yaml", "--resume", "--detach").stdout == f"{session_id}\n"
    with (project.folder / "order.yaml").open("a") as file:
        file.write("# edited\n")
    assert project.run("run", "order.yaml", "--resume", "--detach").stdout == f"{session_id}\n"


def test_each_file_has_its_own_last_session(project: Project) -> None:
    """R88, R64: two terminals, two cascades."""
    order, sleepy, broken = project.started(), None, failed(project)
    sleepy = project.run("run", "sleepy.yaml", "--detach").stdout.strip()
    for file, session_id in (("order.yaml", order), ("sleepy.yaml", sleepy), ("broken.yaml", broken)):
        assert session_in(project.run("run", file, "--resume", "--detach")) == session_id


def test_a_registered_name_and_its_file_are_the_same(make_project: Any) -> None:
    """R68."""
    project = make_project(cascade_definitions=["order.yaml"])
    session_id = project.started()
    for line in (["order", "--resume"], ["--resume", "order"], ["order.yaml", "--resume"]):
        assert project.run("run", "--detach", *line).stdout == f"{session_id}\n", line
    bound = project.run("run", "--detach", "--resume=order")  # R61: what a = binds is an id
    assert (bound.exit_code, "run order --resume" in bound.stderr) == (2, True)


@pytest.mark.integration
def test_ctrl_c_directly_after_the_start_can_be_resumed(project: Project) -> None:
    """R63: the session is written before anything of it runs."""
    process = project.start("run", "sleepy.yaml", "--local", "-i", "seconds=0.3", celery=False)
    assert process.stderr is not None
    session_id = id_in(process.stderr.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    result = project.run("run", "--resume", "sleepy.yaml", "--local")
    assert (result.exit_code, session_in(result)) == (0, session_id), result.stderr
    assert ids(project) == [session_id]


# -- what the last one is doing
def test_one_that_is_active_is_watched_and_not_started_again(project: Project) -> None:
    """D8: attached; nobody runs it here, and that is said."""
    session_id = project.started()
    version = project.cascades.session(session_id).version
    result = project.run("run", "order.yaml", "--resume", "--timeout", "200ms")
    assert result.exit_code == 124
    assert f"Session {session_id} is active: 0 of 2 steps are done." in result.stderr
    assert "There is no living worker" in result.stderr
    assert "restored" not in result.stderr
    assert (ids(project), project.cascades.session(session_id).version) == ([session_id], version)


def test_one_that_is_active_and_held_by_nobody_is_run_here_if_asked(project: Project) -> None:
    """D8, R76: a first run that was left at once goes on here; nothing of it was lost."""
    session_id = project.started()
    result = project.run("run", "order.yaml", "--resume", "--local")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"sum": 12, "word": "none"}
    assert f"No program checkpoints found for session {session_id}" in result.stderr
    assert ids(project) == [session_id]


def test_one_that_a_living_process_holds_is_watched_even_with_local(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D8: two that run the same session help nobody."""
    watched: list[str] = []
    monkeypatch.setattr(going_on, "watch_to_the_end", lambda caller, session, *more: watched.append(session.id))
    session_id, runtime = project.started(), project.runtime
    with local_worker(runtime):
        assert runtime.worker_id is not None
        key = StepKey(session_id, "one")
        assert runtime.store.claim(key, attempt=1, token="t", worker=runtime.worker_id, runner="r") is not None
        result = project.run("run", "order.yaml", "--resume", "--local")
    assert (result.exit_code, watched) == (0, [session_id])
    assert "No program checkpoints" not in result.stderr


def test_a_suspended_one_goes_on(project: Project) -> None:
    """R59, R76."""
    session_id = project.started()
    project.cascades.session(session_id).suspend()
    result = project.run("run", "order.yaml", "--resume", "--detach")
    assert (result.exit_code, result.stdout) == (0, f"{session_id}\n")
    assert f"No program checkpoints found for session {session_id}" in result.stderr
    assert project.cascades.session(session_id).status == "active"
    assert project.json("show", session_id)["session"]["actions"][-1]["action"] == "resume"


def test_one_that_waits_for_an_answer_is_not_resumed_past_it(project: Project) -> None:
    """R77, exit 5: with the commands that answer, and nothing new is started."""
    session_id = project.in_doubt()
    for word in ([], [session_id]):
        result = project.run("run", "order.yaml", "--resume", *word, "--detach")
        assert result.exit_code == 5
        assert f"resume {session_id}" in result.stderr
    assert ids(project) == [session_id]


# -- nothing to go on with
def test_without_a_previous_session_that_is_said_and_a_new_one_is_started(project: Project) -> None:
    """R74, D8."""
    project.ended("broken.yaml")
    result = project.run("run", "order.yaml", "-i", "n=1", "--name", "first", "--resume", "--local")
    assert result.exit_code == 0
    first, second = result.stderr.splitlines()[:2]
    assert first == "No previous session found for these files: order.yaml"
    assert project.json("show", second.removeprefix("Session "))["session"]["name"] == "first"


def test_a_last_one_that_has_ended_is_not_taken_up_and_an_older_one_only_named(project: Project) -> None:
    """R74, R65: the last run is what people mean; the command for the older one works."""
    left = failed(project)
    (project.folder / "go").touch()
    done = failed(project)
    assert project.cascades.session(done).status == "completed"
    result = project.run("run", "broken.yaml", "--resume", "--detach")
    assert result.exit_code == 0
    assert f"that can go on; the last one, {done}, has ended" in result.stderr
    assert "An older one of " in result.stderr
    new = id_in(result.stderr)
    assert new not in (left, done)
    assert commands_in(result.stderr)[0] == ["run", "broken.yaml", "--resume", left]
    assert session_in(project.run(*commands_in(result.stderr)[0], "--local")) == left


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_what_was_ended_on_purpose_is_over(project: Project, end: str) -> None:
    """R74: nobody can go on with it, so a new one begins."""
    session_id = project.started()
    if end == "cancelled":
        project.cascades.session(session_id).cancel()
    else:
        _expire(project, session_id)
    result = project.run("run", "order.yaml", "-i", "n=1", "--resume", "--detach")
    assert result.exit_code == 0
    assert result.stdout.strip() != session_id
    assert project.run("run", "order.yaml", "--resume", session_id, "--detach").exit_code == 5


def _expire(project: Project, session_id: str) -> None:
    moment = (project.runtime.store.now() - timedelta(seconds=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
    project.runtime.store.database.transaction(
        lambda conn: conn.exec_driver_sql(
            "UPDATE session_states SET expires_at = ? WHERE session_id = ?", (moment, session_id)
        )
    )


# -- the one that is named
@pytest.mark.parametrize("word", ["nope-123", "", "@last-failed", "--resume=order.yaml"])
def test_an_unknown_id_is_not_found_and_nothing_is_started(project: Project, word: str) -> None:
    """R75: exit 3, how to list, and no session under that id."""
    given = [word] if word.startswith("--") else ["--resume", word]
    result = project.run("run", "order.yaml", "-i", "n=1", *given, "--local")
    assert result.exit_code == 3
    assert "Error: Session ID not found" in result.stderr
    assert ["ls"] in commands_in(result.stderr)
    assert ids(project) == []


def test_a_session_of_other_files_is_refused_with_those_it_belongs_to(project: Project) -> None:
    """R77: exit 4; `show` says the same; the command that goes on with it works."""
    session_id = failed(project)
    result = project.run("run", "order.yaml", "-i", "n=1", "--resume", session_id, "--local")
    assert result.exit_code == 4
    its = project.folder / "broken.yaml"
    assert f"session {session_id} belongs to {its} (cascade broken), not to order.yaml" in result.stderr
    assert project.run("run", "order.yaml", "-i", "n=1", "--resume", "@last", "--local").exit_code == 4
    assert ids(project) == [session_id]
    assert f"broken from {its}" in project.run("show", session_id).stdout
    (command,) = commands_in(result.stderr)
    (project.folder / "go").touch()
    assert project.run(*command, "--local").exit_code == 0


def test_a_session_without_a_file_is_refused_with_the_command_that_goes_on(project: Project) -> None:
    """R77."""
    session = project.cascades.start({"cascade": "inline", "steps": [{"id": "a", "task": "shop.echo"}]})
    result = project.run("run", "order.yaml", "--resume", session.id, "--detach")
    assert result.exit_code == 4
    assert "belongs to cascade inline, a definition in Python, not to order.yaml" in result.stderr
    (command,) = commands_in(result.stderr)
    assert project.run(*command).exit_code == 0


def test_one_that_has_completed_cannot_go_on(project: Project) -> None:
    """Exit 5, as of the verb `resume`; nothing is started instead."""
    session_id = project.ended()
    result = project.run("run", "order.yaml", "-i", "n=1", "--resume", session_id, "--local")
    assert result.exit_code == 5
    assert f"session {session_id} is completed" in result.stderr
    assert ids(project) == [session_id]
    assert commands_in(result.stderr) == [["show", session_id], ["rerun", session_id]]


# -- what else stands on the line
def test_inputs_that_are_the_same_are_fine_and_others_are_refused(project: Project) -> None:
    """R12, D8: the session has its inputs; exit 4 with the command that runs the cascade with these."""
    session_id = project.started()
    assert project.run("run", "order.yaml", "--resume", "-i", "n=1", "-i", "word=none", "--detach").exit_code == 0
    (project.folder / "same.json").write_text('{"n": 1}')
    assert project.run("run", "order.yaml", "--resume", "--inputs", "same.json", "--detach").exit_code == 0
    result = project.run("run", "order.yaml", "-i", "n=2", "--resume", "-i", "colour=red", "--detach")
    assert result.exit_code == 4
    assert f"session {session_id} was started with other inputs than these: n, colour" in result.stderr
    assert ids(project) == [session_id]
    result = project.run("run", "order.yaml", "-i", "n=2", "--resume", "--detach")
    go_on, fork, anew, look = commands_in(result.stderr)
    assert project.run(*go_on, "--detach").stdout == f"{session_id}\n"
    assert project.run(*look).exit_code == 0
    assert [project.run(*command, "--detach").exit_code for command in (fork, anew)] == [0, 0]
    assert len(ids(project)) == 3


@pytest.mark.parametrize("pair", ["colour=red", "n=many"])
def test_inputs_that_the_cascade_cannot_have_are_offered_no_command(project: Project, pair: str) -> None:
    """R150: a command that is named works; neither a fork nor a new run takes what is no input of the cascade."""
    session_id = project.started()
    result = project.run("run", "order.yaml", "-i", pair, "--resume", "--detach")
    assert result.exit_code == 4
    name = pair.partition("=")[0]
    assert f"session {session_id} was started with other inputs than these: {name}; " in result.stderr
    assert ("has no input 'colour'" if name == "colour" else "input 'n' must be integer") in result.stderr
    for command in commands_in(result.stderr):
        more = ["--detach"] if command[0] == "run" else []
        assert project.run(*command, *more).exit_code == 0, command
    assert ids(project) == [session_id]


OTHER = {
    "--name": ["--name", "x"],
    "--tag": ["--tag", "a"],
    "--thread": ["--thread", "q"],
    "--resource": ["--resource", "bob"],
    "--thread, --resource": ["--thread", "t", "--resource", "bob"],
    "--mode": ["--mode", "other"],
}


@pytest.mark.parametrize("bare", [True, False], ids=["bare", "by id"])
@pytest.mark.parametrize("options", OTHER)
def test_what_a_session_that_goes_on_cannot_be_given_is_refused(project: Project, options: str, bare: bool) -> None:
    """R59, R150: an option that would be passed over in silence is an error with the next commands, exit 4."""
    session_id = project.started("--thread", "t", "--resource", "ann", "--tag", "a", "--tag", "b", "--mode", "m")
    line = ["order.yaml", "--resume", *([] if bare else [session_id])]
    result = project.run("run", *line, "-i", "n=1", *OTHER[options], "--detach")
    assert result.exit_code == 4, result.output
    says = "say" if "," in options else "says"
    assert f"keeps what it was started with, which is something else than {options} {says}" in result.stderr
    assert ids(project) == [session_id]
    go_on, anew, look = commands_in(result.stderr)
    assert anew[1:] == ["order.yaml", "-i", "n=1", *OTHER[options]]
    assert project.run(*go_on, "--detach").stdout == f"{session_id}\n"
    assert project.run(*look).exit_code == 0
    if options in ("--name", "--tag", "--thread", "--mode"):  # the others need more words
        assert project.run(*anew, "--detach").exit_code == 0


def test_what_a_session_has_may_be_said_again_and_a_new_one_gets_it(project: Project) -> None:
    """R59, R74: one line for a timer: `run … --resume --name nightly --tag x`, whether there is something or not."""
    line = ["run", "order.yaml", "-i", "n=1", "--resume", "--name", "nightly", "--tag", "b", "--tag", "a", "--detach",
            "--thread", "t", "--mode", "m"]  # fmt: skip
    first = project.run(*line)
    assert first.exit_code == 0, first.output
    session = project.json("show", "@last")["session"]
    assert [session[key] for key in ("name", "tags", "thread_id", "resource_id", "mode")] == [
        "nightly", ["b", "a"], "t", "default", "m",
    ]  # fmt: skip
    assert project.run(*line).stdout == first.stdout
    new = project.run("run", "sleepy.yaml", "--resume", "--queue", "--thread", "u", "--expires-in", "1h", "--detach")
    assert new.exit_code == 0, new.output
    expires = project.json("show", "@last")["session"]["expires_at"]
    again = project.run("run", "sleepy.yaml", "--resume", "--queue", "--thread", "u", "--expires-in", "3h", "--detach")
    assert again.stdout == new.stdout
    assert "It keeps its own: --queue and --expires-in would count for a new session." in again.stderr
    assert project.json("show", "@last")["session"]["expires_at"] == expires


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["order.yaml", "--resume", "--session", "mine"], "--session names a session to start"),
        (["order.yaml", "--resume", "abcdef", "--session", "mine"], "--session names a session to start"),
        (["order.yaml", "--use-current-definition"], "--use-current-definition is about a session that goes on"),
        (["order.yaml", "sleepy.yaml"], "order.yaml, sleepy.yaml: none of these files refers to another one"),
        (["order.yaml", "--resume", "sleepy.yaml"], "so it is not clear which one to run"),
        (["order.yaml", "--resume", "--local", "--detach"], "--local runs here"),
        ([], "Missing argument 'FILE...'"),
        (["--resume"], "Missing argument 'FILE...'"),
        (["--resume", "3f2a91"], "resume 3f2a91 --watch"),
        (["--resume=3f2a91"], "resume 3f2a91 --watch"),
        (["--resume=order.yaml"], "run order.yaml --resume"),
    ],
)
def test_what_makes_no_sense_together_is_refused(project: Project, args: list[str], said: str) -> None:
    """D8: exit 2, and nothing is started."""
    result = project.run("run", "-i", "n=1", *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert ids(project) == []


def test_the_same_file_twice_is_one_file(project: Project) -> None:
    """R62."""
    result = project.run("run", "order.yaml", "./order.yaml", "-i", "n=1", "--detach")
    assert project.run("run", "order.yaml", "--resume", "--detach").stdout == result.stdout


def test_json_is_the_whole_session_and_words_stay_on_stderr(project: Project) -> None:
    """R72: programs read stdout."""
    session_id = failed(project)
    (project.folder / "go").touch()
    whole = project.json("run", "broken.yaml", "--resume", "--local")["session"]
    assert (whole["session_id"], whole["status"]) == (session_id, "completed")
    refused = project.json("run", "broken.yaml", "--resume", "nope-123", code=3)
    assert refused["error"]["type"] == "SessionNotFound"


def test_an_eager_app_goes_on_here(make_project: Any) -> None:
    """R87."""
    project = make_project(task_always_eager=True)
    assert project.run("run", "broken.yaml").exit_code == 1
    (project.folder / "go").touch()
    result = project.run("run", "broken.yaml", "--resume")
    assert (result.exit_code, len(ids(project))) == (0, 1), result.stderr


# -- without a store
def test_without_a_store_a_resume_is_refused_with_the_setting_to_add(make_project: Any) -> None:
    """R78: a plain run would do again what was done."""
    project = make_project(cascade_store_required=False, cascade_database_url="sqlite:///nothing.sqlite")
    for word in ([], ["abcdef"]):
        result = project.run("run", "order.yaml", "-i", "n=1", "--resume", *word, "--local")
        assert result.exit_code == 7
        assert "Error: Resume requested but durability not enabled: " in result.stderr
        assert "app.conf.cascade_store_required = True" in result.stderr
        assert ["migrate", "up"] in commands_in(result.stderr)
        assert result.stdout == ""


# -- an edited file
def edit(project: Project, old: str = "shop.echo, with: {value: 1}", new: str = "shop.echo, with: {value: 2}") -> None:
    text = (project.folder / "broken.yaml").read_text()
    assert old in text
    (project.folder / "broken.yaml").write_text(text.replace(old, new))


def test_an_edited_file_is_shown_and_the_stored_definition_used(project: Project) -> None:
    """D7."""
    session_id = failed(project)
    edit(project)
    (project.folder / "go").touch()
    result = project.run("run", "broken.yaml", "--resume", "--local")
    assert result.exit_code == 0
    assert f"broken.yaml has changed since session {session_id} was started:" in result.stderr
    assert "    -  - {id: before, task: shop.echo, with: {value: 1}}\n" in result.stderr
    assert "    +  - {id: before, task: shop.echo, with: {value: 2}}\n" in result.stderr
    assert "It goes on with the definition that it was started with." in result.stderr
    assert "\x1b[" not in result.stderr
    assert commands_in(result.stderr)[0] == ["run", "broken.yaml", "--resume", session_id, "--use-current-definition"]
    assert project.cascades.session(session_id).definition == BROKEN.encode()


def test_an_edit_that_cannot_be_read_is_in_nobodys_way(project: Project) -> None:
    """D7: the session has its definition in the store."""
    session_id = failed(project)
    (project.folder / "broken.yaml").write_text("cascade: [")
    (project.folder / "go").touch()
    result = project.run("run", "broken.yaml", "--resume", "--local")
    assert (result.exit_code, session_in(result)) == (0, session_id)


@pytest.mark.parametrize("word", [[], ["@last"]])
def test_a_file_that_is_gone_does_not_stop_its_session(project: Project, word: list[str]) -> None:
    """D7: the key is made of the path, and the definition is in the store."""
    session_id = failed(project)
    os.remove(project.folder / "broken.yaml")
    (project.folder / "go").touch()
    result = project.run("run", "broken.yaml", "--resume", *word, "--local")
    assert (result.exit_code, session_in(result)) == (0, session_id)
    assert f"broken.yaml is not there any more. Session {session_id} keeps the definition" in result.stderr
    nothing = project.run("run", "broken.yaml", "--resume", "--local")
    assert nothing.exit_code == 3, "there is nothing to start a new one from"
    assert "there is no such file" in nothing.stderr
    assert ["rerun", session_id] in commands_in(nothing.stderr), "what is stored can be run once more"


def test_the_current_definition_is_a_fork_at_the_last_checkpoint_in_one_step(project: Project) -> None:
    """D7: what was checkpointed is kept, the rest is as the file says now; the origin stays as it is."""
    session_id = failed(project)
    before = project.json("show", session_id)
    edit(project, "shop.fail, retry: {max_attempts: 2, delay: 10ms}", "shop.add, with: {x: 41}")
    result = project.run("run", "broken.yaml", "--resume", "--use-current-definition", "--local")
    assert (result.exit_code, result.stdout) == (0, "42\n"), result.stderr
    assert f"Found previous session: {session_id}\n" in result.stderr
    assert "    +  - {id: boom, task: shop.add, with: {x: 41}}\n" in result.stderr
    forked = id_in(result.stderr)
    assert f"keeps 1 finished step of session {session_id}" in result.stderr
    attempts = {step["step"]: step["attempt"] for step in project.cascades.session(forked).steps}
    assert attempts["boom"] == 1
    assert ids(project) == [forked, session_id]
    assert project.json("show", session_id) == before
    assert project.cascades.last_session("broken.yaml") == project.cascades.session(forked)


@pytest.mark.parametrize(
    "line",
    ["--resume {id} broken.yaml", "broken.yaml --resume {id}", "--resume broken.yaml", "--resume -i x=1 broken.yaml"],
)
def test_the_current_definition_can_be_asked_for_wherever_the_id_stands(project: Project, line: str) -> None:
    """R61, D7; a worker does the rest."""
    project.run("run", "order.yaml", "-i", "n=1", "--detach")
    (project.folder / "broken.yaml").write_text("inputs: {x: {default: 1}}\n" + BROKEN)
    session_id = failed(project)
    edit(project)
    words = line.format(id=session_id).split()
    result = project.run("run", "--use-current-definition", "--detach", *words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() not in ("", session_id)
    assert project.cascades.session(result.stdout.strip()).status == "active"
    assert project.cascades.session(session_id).status == "failed"


def test_an_unchanged_file_needs_no_fork(project: Project) -> None:
    """D7: it goes on under its own id."""
    session_id = failed(project)
    (project.folder / "go").touch()
    result = project.run("run", "broken.yaml", "--resume", "--use-current-definition", "--local")
    assert result.exit_code == 0
    assert "broken.yaml is as it was when the session started: nothing is forked." in result.stderr
    assert ids(project) == [session_id]


def test_an_active_session_is_not_forked_behind_its_back(project: Project) -> None:
    """D7: what is left would run twice; exit 4 with what to do."""
    session_id = project.started()
    with (project.folder / "order.yaml").open("a") as file:
        file.write("# edited\n")
    result = project.run("run", "order.yaml", "--resume", "--use-current-definition", "--detach")
    assert result.exit_code == 4
    assert f"session {session_id} is active" in result.stderr
    assert f"suspend {session_id}" in result.stderr
    assert ids(project) == [session_id]


@pytest.mark.parametrize(("text", "code"), [("cascade: [", 6), (None, 3)])
def test_a_current_definition_that_is_none_changes_nothing(project: Project, text: str | None, code: int) -> None:
    """D7."""
    session_id = failed(project)
    before = project.json("show", session_id)
    os.remove(project.folder / "broken.yaml")
    if text is not None:
        (project.folder / "broken.yaml").write_text(text)
    result = project.run("run", "broken.yaml", "--resume", "--use-current-definition", "--local")
    assert result.exit_code == code, result.stderr
    assert project.json("show", session_id) == before
    assert ids(project) == [session_id]


# -- one place to look
def test_ls_and_show_are_the_place_to_look_for_sessions_and_checkpoints(project: Project) -> None:
    """R77, R80: no folder to list, no file to read."""
    session_id = failed(project)
    assert ids(project) == [session_id]
    (checkpoint,) = project.json("show", session_id)["session"]["checkpoints"]
    shown = project.run("show", session_id).stdout
    assert f"Saved     1 checkpoint, the last one {checkpoint['checkpoint']} after before\n" in shown
    assert f"Cascade   broken from {project.folder / 'broken.yaml'}\n" in shown
    assert "Saved     no checkpoint yet\n" in project.run("show", project.started()).stdout
