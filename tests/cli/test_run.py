"""`cascade run`: inputs, what is printed where, and how it ends."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from celery_cascade.persistence.rows import WorkerRow
from cli.kit import Project, commands_in, id_in


def test_a_template_that_asks_in_vain_is_not_to_be_resumed_but_mended(project: Project) -> None:
    """R150: a resume keeps the definition that the session was started with."""
    wrong = (project.folder / "order.yaml").read_text().replace("{{ outputs.one }}", "{{ outputs.one.nothing }}")
    (project.folder / "wrong.yaml").write_text(wrong)
    result = project.run("run", "wrong.yaml", "-i", "n=1", "--local")
    assert result.exit_code == 1
    assert "mend the file, and start a new session of it" in result.stderr
    assert "resume" not in result.stderr


def test_a_local_run_prints_its_output_on_stdout_and_words_on_stderr(project: Project) -> None:
    """R58: the id is said at the start; data on stdout, words on stderr."""
    result = project.run("run", "order.yaml", "-i", "n=1", "--local")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"sum": 12, "word": "none"}
    lines = result.stderr.splitlines()
    assert lines[0] == f"Session {id_in(result.stderr)}"
    told = [line.split()[1:3] for line in lines[1:-1]]
    ended = [words for words in told if words[1:] != ["running"]]  # that a step runs is told if somebody saw it run
    assert ended[:2] == [["one", "succeeded"], ["two", "succeeded"]]
    assert lines[-1].endswith("is completed.")


def test_each_run_has_an_id_of_its_own(project: Project) -> None:
    """R58."""
    assert project.started() != project.started()


def test_a_detached_run_prints_its_id_and_nothing_else_on_stdout(project: Project) -> None:
    result = project.run("run", "order.yaml", "-i", "n=1", "--detach")
    assert result.exit_code == 0
    assert result.stdout == id_in(result.stderr) + "\n"
    assert project.runtime.store.head(result.stdout.strip())["status"] == "active"


def test_a_detached_run_without_a_worker_says_both_ways_out(project: Project) -> None:
    """D8: a worker's exact command, and --local; both as they are to be typed."""
    result = project.run("run", "order.yaml", "-i", "n=1", "--detach")
    session_id = result.stdout.strip()
    assert f"    celery -A {project.name} worker\n" in result.stderr
    assert commands_in(result.stderr) == [["resume", session_id, "--local"]]
    taken = project.run(*commands_in(result.stderr)[0])
    assert taken.exit_code == 0
    assert json.loads(taken.stdout) == {"sum": 12, "word": "none"}


def test_a_watched_run_without_a_worker_says_so_and_keeps_waiting(project: Project) -> None:
    """D8; the time-out ends the watching, not the session."""
    result = project.run("run", "order.yaml", "-i", "n=1", "--timeout", "300ms")
    assert result.exit_code == 124
    assert "There is no living worker" in result.stderr
    assert f"celery -A {project.name} worker" in result.stderr
    assert result.stdout == ""
    assert project.runtime.store.head(id_in(result.stderr))["status"] == "active"


@pytest.mark.parametrize(
    ("given", "value"),
    [("word=7", "7"), ("word=true", "true"), ('word="x"', '"x"'), ("word=a=b", "a=b"), ("word=", "")],
)
def test_a_declared_string_is_taken_as_it_stands(project: Project, given: str, value: str) -> None:
    whole = project.json("run", "order.yaml", "-i", "n=1", "-i", given, "--local")
    assert whole["session"]["inputs"]["word"] == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("[1, 2]", [1, 2]), ('{"a": null}', {"a": None}), ("plain", "plain"), ("NaN", "NaN"), ("1e3", 1000.0)],
)
def test_an_input_is_json_where_it_is_some_and_text_otherwise(project: Project, text: str, value: object) -> None:
    (project.folder / "any.yaml").write_text(
        'cascade: any\nsteps:\n  - {id: a, task: shop.echo, with: {value: "{{ inputs.v }}"}}\n'
    )
    whole = project.json("run", "any.yaml", "-i", f"v={text}", "--local")
    assert whole["session"]["output"] == value


def test_inputs_come_from_a_file_or_stdin_and_a_pair_wins(project: Project) -> None:
    (project.folder / "given.json").write_text('{"n": 5, "word": "file"}')
    whole = project.json("run", "order.yaml", "--inputs", "given.json", "-i", "word=pair", "--local")
    assert whole["session"]["inputs"] == {"n": 5, "word": "pair"}
    whole = project.json("run", "order.yaml", "--inputs", "-", "--local", input='{"n": 6}')
    assert whole["session"]["inputs"] == {"n": 6, "word": "none"}


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["-i", "n"], 2, "-i 'n' has no value"),
        (["-i", "=1"], 2, "has no value"),
        (["--inputs", "nope.json"], 2, "nope.json"),
        (["--inputs", "-"], 6, "stdin"),
        (["-i", "n=x"], 6, "'n' must be integer"),
        (["-i", "n=1", "-i", "wrod=x"], 6, "'wrod'"),
        ([], 6, "needs the input 'n'"),
        (["-i", "n=1", "--session", "not an id"], 2, "session id"),
        (["-i", "n=1", "--local", "--detach"], 2, "--local"),
        (["-i", "n=1", "--timeout", "soon"], 2, "soon"),
    ],
)
def test_what_cannot_be_started_is_refused_and_nothing_is_written(
    project: Project, args: list[str], code: int, said: str
) -> None:
    """Exit 2 for the command line, 6 for inputs; no traceback."""
    result = project.run("run", "order.yaml", *args, input="[1]")
    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert project.json("ls")["count"] == 0


def test_a_file_that_is_not_there_is_not_found(project: Project) -> None:
    """Exit 3, as for a session; 6 is for a file that is there and says nothing that can be run."""
    result = project.run("run", "ordre.yaml", "--local")
    assert result.exit_code == 3
    assert "ordre.yaml: there is no such file\n" in result.stderr
    assert re.search(r"there is: .*order\.yaml", result.stderr)
    assert commands_in(result.stderr) == [["validate", "order.yaml"]]
    result = project.run("run", "nope", "--local")
    assert result.exit_code == 3
    assert "neither a cascade file nor a registered cascade" in result.stderr


def test_only_cascade_files_are_named_beside_one_that_is_not_there(project: Project) -> None:
    """R150: a log is no cascade file, however alike its name; and who has files is not told to begin with a project."""
    (project.folder / "order.yml.log").touch()
    result = project.run("run", "order.yml", "--local")
    assert re.search(r"there is: .*order\.yaml\n", result.stderr)
    assert ".log" not in result.stderr
    assert "init" not in result.stderr
    far = project.run("run", "zzz.yaml", "--local")
    assert "there is: broken.yaml, order.yaml, sleepy.yaml\n" in far.stderr


def test_an_unregistered_task_is_told_with_the_command_that_lists_them(project: Project) -> None:
    """R150: the next command works as printed."""
    (project.folder / "typo.yaml").write_text("cascade: typo\nsteps:\n  - {id: a, task: shop.ad}\n")
    result = project.run("run", "typo.yaml", "--local")
    assert result.exit_code == 6
    assert "did you mean 'shop.add'?" in result.stderr
    (command,) = commands_in(result.stderr)
    assert "shop.add" in project.run(*command).stdout


def test_a_registered_name_can_be_run(make_project) -> None:
    project = make_project(cascade_definitions=["order.yaml"])
    whole = project.json("run", "order", "-i", "n=1", "--local")
    assert whole["session"]["output"]["sum"] == 12


def test_an_id_of_ones_own_goes_on_while_unfinished_and_is_a_conflict_afterwards(project: Project) -> None:
    """R12, D13."""
    assert project.started("--session", "mine-1") == "mine-1"
    assert project.started("--session", "mine-1") == "mine-1"
    assert project.json("ls")["count"] == 1
    other = project.run("run", "order.yaml", "-i", "n=2", "--session", "mine-1", "--detach")
    assert other.exit_code == 4
    assert project.run("run", "order.yaml", "-i", "n=1", "--session", "mine-1", "--local").exit_code == 0
    again = project.run("run", "order.yaml", "-i", "n=1", "--session", "mine-1", "--local")
    assert again.exit_code == 4
    look, anew, branch = commands_in(again.stderr)
    assert [project.run(*command).exit_code for command in (look, [*anew, "--detach"], branch)] == [0, 0, 0]
    assert anew == ["rerun", "mine-1"]


def test_name_and_tags_are_kept(project: Project) -> None:
    session_id = project.started("--name", "Ann's", "--tag", "red", "--tag", "blue")
    shown = project.json("show", session_id)["session"]
    assert (shown["name"], shown["tags"]) == ("Ann's", ["red", "blue"])


def test_a_failed_run_exits_1_with_the_error_and_the_command_that_goes_on(project: Project) -> None:
    """R150."""
    result = project.run("run", "broken.yaml", "--local")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "boom failed in attempt 1: ValueError: it is broken" in result.stderr
    assert "boom failed in attempt 2: ValueError: it is broken" in result.stderr
    assert "Error: step 'boom': ValueError: it is broken" in result.stderr
    look, again = commands_in(result.stderr)
    assert project.run(*look).exit_code == 0
    (project.folder / "go").touch()
    assert project.run(*again, "--local").exit_code == 0


def test_a_run_in_json_prints_the_whole_session(project: Project) -> None:
    result = project.run("run", "broken.yaml", "--local", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["schema"] == "cascade/1"
    assert found["session"]["error"]["message"] == "it is broken"
    detached = project.json("run", "order.yaml", "-i", "n=1", "--detach")
    assert detached["session"]["status"] == "active"


def test_an_eager_app_runs_it_here(make_project) -> None:
    """R87: task_always_eager means what it means elsewhere in Celery."""
    project = make_project(task_always_eager=True)
    result = project.run("run", "order.yaml", "-i", "n=1")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["sum"] == 12


def row(**more: Any) -> WorkerRow:
    return WorkerRow(id="w", nodename="celery@other", host="other", pid=1, pool="prefork", **more)


def test_workers_that_do_not_know_the_task_are_no_help_and_that_is_said(project: Project) -> None:
    """D8: with both ways out, as where there is no worker at all."""
    project.runtime.store.add_worker(row(tasks='["shop.else"]', queues='["celery"]'))
    result = project.run("run", "order.yaml", "-i", "n=1", "--detach")
    assert result.exit_code == 0
    assert "No living worker knows the task shop.add; it waits." in result.stderr
    assert f"    celery -A {project.name} worker\n" in result.stderr
    (command,) = commands_in(result.stderr)
    assert project.run(*command).exit_code == 0


def test_a_queue_that_nobody_consumes_is_named_with_the_worker_that_would(project: Project) -> None:
    """D8: as far as the workers' rows tell."""
    (project.folder / "paid.yaml").write_text(
        "cascade: paid\nsteps:\n  - {id: a, task: shop.echo}\n  - {id: b, task: shop.echo, queue: payments}\n"
    )
    nobody = project.run("run", "paid.yaml", "--detach").stderr
    assert "There is no living worker" in nobody
    assert f"    celery -A {project.name} worker -Q celery,payments\n" in nobody
    project.runtime.store.add_worker(row(tasks='["shop.echo"]', queues='["celery"]'))
    result = project.run("run", "paid.yaml", "--timeout", "200ms")
    assert result.exit_code == 124
    assert "worker that knows the task shop.echo consumes its queue payments; it waits." in result.stderr
    assert f"    celery -A {project.name} worker -Q payments\n" in result.stderr
    project.runtime.store.add_worker(replace(row(tasks='["shop.echo"]', queues='["payments"]'), id="v"))
    result = project.run("run", "paid.yaml", "--detach")
    assert "worker" not in result.stderr


def test_a_run_that_goes_on_tells_what_it_does_not_repeat(project: Project) -> None:
    """R161, R12."""
    assert "Not repeated" not in project.run("run", "broken.yaml", "--local").stderr
    told = r"^Not repeated: 1 finished step, 0\.\d s of work\.$"
    assert re.search(told, project.run("resume", "@last").stderr, re.MULTILINE)
    (project.folder / "go").touch()
    assert re.search(told, project.run("resume", "@last", "--local").stderr, re.MULTILINE)
