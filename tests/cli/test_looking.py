"""`ls`, `show`, `watch`, `definition`: what there is to be seen."""

from __future__ import annotations

import json
import re
import sqlite3
from datetime import datetime

import pytest
from sqlalchemy import event

from celery_cascade.persistence.rows import StepKey, WorkerRow
from celery_cascade.tasks import recovery
from cli.kit import ORDER, Project, commands_in

#: `cascade/1`: programs rely on these keys; a new one is an addition, a missing one breaks them.
SUMMARY = {
    "session_id", "cascade_id", "name", "status", "reason", "mode", "current_phase", "current_step", "progress",
    "can_resume", "kept", "version", "thread_id", "resource_id", "tags", "created_at", "started_at", "updated_at",
    "finished_at", "expires_at", "trigger", "forked_from", "forked_step", "continues",
}  # fmt: skip
WHOLE = SUMMARY | {
    "completed_steps", "inputs", "output", "error", "definition_sha256", "config_path", "parent_session_id", "depth",
    "checkpoints", "steps", "waits_for", "actions",
}  # fmt: skip
STEP = {
    "step", "item", "status", "reason", "phase", "attempt", "crashes", "task", "worker", "started_at", "finished_at",
    "output", "error",
}  # fmt: skip


def test_ls_lists_the_newest_first(project: Project) -> None:
    first, second = project.ended(), project.ended("broken.yaml")
    lines = project.run("ls").stdout.splitlines()
    assert lines[0].split() == ["SESSION", "CASCADE", "NAME", "STATUS", "DONE", "PHASE", "STARTED", "TOOK"]
    assert [line.split()[0] for line in lines[1:]] == [second, first]
    assert "failed" in lines[1]
    assert "completed" in lines[2]


def test_ls_in_json_has_these_keys_and_no_payloads(project: Project) -> None:
    """R146: a list never loads them."""
    project.ended()
    found = project.json("ls")
    assert set(found) == {"schema", "sessions", "count", "total_sessions", "total_exact", "next_cursor"}
    assert (found["schema"], found["count"]) == ("cascade/1", 1)
    assert set(found["sessions"][0]) == SUMMARY | {"topic", "is_zombie"}


def test_ls_of_an_empty_store_says_so_in_words(project: Project) -> None:
    result = project.run("ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No sessions.\n"


def test_ls_filters_by_status_and_cascade(project: Project) -> None:
    good, bad, waits = project.ended(), project.ended("broken.yaml"), project.started()

    def ids(*args: str) -> list[str]:
        return [one["session_id"] for one in project.json("ls", *args)["sessions"]]

    assert ids("--status", "failed") == [bad]
    assert ids("--status", "failed", "--status", "completed") == [bad, good]
    assert ids("--status", "failed,completed") == [bad, good]
    assert ids("--cascade", "order") == [waits, good]
    assert ids("--cascade", "order", "--limit", "1") == [waits]
    assert ids("--cascade", "nope") == []


@pytest.mark.parametrize(("word", "status"), [("running", "active"), ("error", "failed"), ("waiting", "suspended")])
def test_ls_understands_the_words_of_other_systems(project: Project, word: str, status: str) -> None:
    """D2."""
    project.ended("broken.yaml")
    project.started()
    assert {one["status"] for one in project.json("ls", "--status", word)["sessions"]} <= {status}


def test_ls_refuses_a_status_that_is_none_and_names_those_there_are(project: Project) -> None:
    """D2: exit 2."""
    result = project.run("ls", "--status", "paused")
    assert result.exit_code == 2
    for word in ("active", "suspended", "completed", "failed", "cancelled", "expired"):
        assert word in result.stderr


def test_ls_says_when_it_does_not_show_all(project: Project) -> None:
    for _ in range(3):
        project.started()
    said = project.run("ls", "--limit", "2").stderr
    assert "2 of 3 sessions are shown" in said
    assert len(project.run("ls", "--limit", "2", *said.split("The next page: ")[1].split()).stdout.splitlines()) == 2


def test_a_session_that_nobody_runs_never_looks_just_active(project: Project) -> None:
    """D2: `active, no living worker for 41 s`, in the list, the JSON and `show`."""
    session_id = project.started()
    shape = r"active, no living worker for \d+ (s|min|h|d)"
    assert re.search(shape, project.run("ls").stdout)
    assert re.search(shape, project.run("show", session_id).stdout)
    assert project.json("ls")["sessions"][0]["reason"].startswith("no living worker for ")


def test_show_names_the_file_the_steps_and_the_attempts(project: Project) -> None:
    """R77: the file that a session belongs to. R115: done, total and percent."""
    session_id = project.ended("broken.yaml")
    text = project.run("show", session_id).stdout
    assert str(project.folder / "broken.yaml") in text
    assert "1 of 2 steps (50 %)" in text
    assert re.search(r"^before +succeeded +1 +- +here@\S+ +\d\.\d s +1$", text, re.MULTILINE)
    assert re.search(r"^boom +failed +2 ", text, re.MULTILINE)
    assert len(re.findall(r"boom on here@\S+ failed in attempt \d: ValueError: it is broken", text)) == 2
    assert "Traceback" not in text
    assert "Traceback" in project.run("show", session_id, "--traceback").stdout
    assert commands_in(text) == [["show", session_id, "--traceback"], ["resume", session_id]]


def test_show_in_json_has_exactly_these_keys(project: Project) -> None:
    """R96: times are ISO-8601 with their zone. D13: checkpoints are written <session>_ckpt_<n>."""
    session_id = project.ended()
    found = project.json("show", session_id)
    assert set(found) == {"schema", "session"}
    session = found["session"]
    assert set(session) == WHOLE
    assert session["progress"] == {"done": 2, "total": 2, "percent": 100}
    assert session["completed_steps"] == ["one", "two"]
    assert (session["inputs"], session["output"]) == ({"n": 1, "word": "none"}, {"sum": 12, "word": "none"})
    assert [point["checkpoint"].partition("_ckpt_")[0] for point in session["checkpoints"]] == [session_id] * 2
    for step in session["steps"]:
        assert set(step) == STEP
        assert step["item"] is None
    for moment in ("created_at", "started_at", "updated_at", "finished_at"):
        assert session[moment].endswith("Z")
        assert datetime.fromisoformat(session[moment]).tzinfo is not None


def test_long_values_are_cut_with_their_size_and_whole_in_json(project: Project) -> None:
    """R146."""
    word = "x" * 5000
    session_id = project.ended("order.yaml", "-i", f"word={word}")
    text = project.run("show", session_id).stdout
    assert "5.0 kB" in text
    assert word not in text
    assert project.json("show", session_id)["session"]["inputs"]["word"] == word


def test_what_users_wrote_cannot_command_a_terminal(project: Project) -> None:
    """R148: shown as text."""
    session_id = project.ended("order.yaml", "-i", "word=\x1b[2J\x07<b>[red]", "--name", "\x1b]0;x\x07")
    for verb in (["show", session_id], ["ls"]):
        text = project.run(*verb).stdout
        assert "\x1b" not in text
        assert "\x07" not in text


def test_definition_raw_gives_the_exact_bytes_whatever_the_file_says_now(project: Project) -> None:
    """R2: comments, line ends and a missing last newline included."""
    body = ORDER.replace("\n", "\r\n").rstrip().encode() + "  # ünd Ende".encode()
    (project.folder / "order.yaml").write_bytes(body)
    session_id = project.ended()
    (project.folder / "order.yaml").write_text("changed")
    result = project.run("definition", session_id, "--raw")
    assert (result.stdout_bytes, result.stderr) == (body, "")


def test_definition_prints_text_and_where_it_came_from(project: Project) -> None:
    session_id = project.ended()
    result = project.run("definition", session_id)
    assert result.stdout == ORDER
    assert str(project.folder / "order.yaml") in result.stderr
    found = project.json("definition", session_id)
    assert found["definition"] == ORDER
    assert found["sha256"] in result.stderr


def test_watch_of_an_ended_session_prints_its_output(project: Project) -> None:
    result = project.run("watch", project.ended())
    assert result.exit_code == 0
    assert json.loads(result.stdout)["sum"] == 12
    assert project.run("watch", project.ended("broken.yaml")).exit_code == 1


def test_watch_of_a_session_that_waits_exits_8_and_says_for_what(project: Project) -> None:
    session_id = project.started()
    project.cascades.session(session_id).suspend()
    result = project.run("watch", session_id)
    assert result.exit_code == 8
    assert "operator" in result.stderr
    assert commands_in(result.stderr)[-1] == ["resume", session_id]


def test_watch_gives_up_after_its_timeout(project: Project) -> None:
    session_id = project.started()
    result = project.run("watch", session_id, "--timeout", "0.2")
    assert result.exit_code == 124
    assert commands_in(result.stderr)[-1] == ["watch", session_id]
    assert "it goes on" in result.stderr


def test_a_session_whose_times_cannot_be_read_is_shown_without_them(project: Project) -> None:
    """R119: and hides no other session."""
    broken, other = project.ended(), project.ended()
    with sqlite3.connect(project.runtime.store.database.url.database) as connection:
        connection.execute("DROP TRIGGER cascade_sessions_are_immutable")
        connection.execute("UPDATE cascade_sessions SET created_at = 'garbage' WHERE session_id = ?", [broken])
        times = "started_at = 'x', finished_at = 7, updated_at = '', expires_at = '1.5.'"
        connection.execute(f"UPDATE session_states SET {times} WHERE session_id = ?", [broken])
        connection.execute("UPDATE session_steps SET finished_at = 'y' WHERE session_id = ?", [broken])
    connection.close()
    assert {line.split()[0] for line in project.run("ls").stdout.splitlines()[1:]} == {broken, other}
    assert project.run("show", broken).exit_code == 0
    shown = project.json("show", broken)["session"]
    assert (shown["created_at"], shown["finished_at"], shown["status"]) == (None, None, "completed")
    assert project.run("rm", broken).exit_code == 0


def test_show_tells_who_did_what_and_why(project: Project) -> None:
    """R135, R161: `resume --reason` and `cancel --reason` are kept to be read."""
    session_id = project.ended("broken.yaml")
    assert "Actions:" not in project.run("show", session_id).stdout
    project.run("resume", session_id, "--reason", "the bank is back\x1b[2J")
    project.run("cancel", session_id, "--reason", "nobody wants it any more")
    text = project.run("show", session_id).stdout
    actions = text.partition("Actions:\n")[2].splitlines()
    assert re.fullmatch(r"  \S+ \S+ resume by \S+: the bank is back·\[2J", actions[0])
    assert re.fullmatch(r"  \S+ \S+ cancel by \S+: nobody wants it any more", actions[1])
    first, second = project.json("show", session_id)["session"]["actions"]
    assert (first["action"], second["action"], second["reason"]) == ("resume", "cancel", "nobody wants it any more")
    assert first["version"] < second["version"]
    assert first["at"].endswith("Z")


def test_show_has_a_column_of_phases_only_where_a_step_has_one(project: Project) -> None:
    """D13."""
    (project.folder / "phased.yaml").write_text(
        "cascade: p\nsteps:\n  - {id: a, phase: prepare, task: shop.echo}\n  - {id: b, task: shop.echo}\n"
    )
    text = project.run("show", project.ended("phased.yaml")).stdout
    assert re.search(r"^STEP +PHASE +STATUS ", text, re.MULTILINE)
    assert re.search(r"^a +prepare +succeeded ", text, re.MULTILINE)
    assert re.search(r"^b +- +succeeded ", text, re.MULTILINE)
    assert "PHASE" not in project.run("show", project.ended()).stdout


def test_show_hints_at_the_traceback_which_ends_with_the_way_to_go_on(project: Project) -> None:
    """R161: session, step, attempt, resume command; an attempt that is tried again says so."""
    session_id = project.ended("broken.yaml")
    (command,) = [words for words in commands_in(project.run("show", session_id).stdout) if words[0] == "show"]
    text = project.run(*command).stdout
    first, last = re.findall(r"^ +(\[cascade\] .*)$", text, re.MULTILINE)
    where = f"[cascade] session {session_id}, step boom, attempt"
    assert first == f"{where} 1; tried again in 0.0 s"
    assert last.startswith(f"{where} 2; resume with: celery -A ")
    assert last.endswith(f" cascade resume {session_id}")


def test_a_lost_worker_is_named_by_its_node_name(project: Project) -> None:
    """R150: people know their workers by name."""
    session_id = project.started()
    store = project.runtime.store
    store.add_worker(WorkerRow(id="w" * 36, nodename="celery@far", host="far", pid=1, pool="prefork"))
    key = StepKey(session_id, "one")
    assert store.claim(key, attempt=1, token="t", worker="w" * 36, runner="1.1")
    store.stop_worker("w" * 36)
    recovery.recover(project.runtime, witness=False)
    text = project.run("show", session_id).stdout
    assert "WorkerLost: worker celery@far died while it ran the step" in text
    assert "wwwwww" not in text


def test_lists_never_load_payloads(project: Project) -> None:
    """R146: what is asked of the database has no input, output, call, error or definition in it."""
    project.ended("order.yaml", "-i", "word=" + "x" * 5000)
    project.ended("broken.yaml")
    project.started()
    asked: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    engine = project.runtime.store.database._own
    event.listen(engine, "before_cursor_execute", note)
    try:
        assert project.run("ls").exit_code == project.run("ls", "--json").exit_code == 0
        assert len(list(project.cascades.sessions())) == 3
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert any("cascade_sessions" in statement for statement in asked)
    begin = re.compile(r"substr\(cascade_sessions\.input_data, \?, \?\)")  # for the topics of this page's sessions
    words = {word for statement in asked for word in re.findall(r"\w+", begin.sub("", statement))}
    assert not words & {"input_data", "output", "call", "error", "traceback", "body", "context_variables", "plan_data"}
