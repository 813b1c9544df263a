"""`threads`, and `run` in a thread (R89-R91, R97-R99, R102, D12, R40, R45)."""

from __future__ import annotations

import re
import shlex
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from cli.kit import Project, commands_in

ANN = ("--thread", "support-7", "--resource", "ann")


def typed(words: str) -> list[str]:
    """The one command in the words, as a shell takes it apart."""
    (command,) = re.findall(r"cascade -A \S+ (.*)$", words, re.MULTILINE)
    return shlex.split(command)


def in_thread(project: Project, *more: str) -> str:
    return project.started(*ANN, *more)


def test_a_thread_that_run_began_is_listed_shown_and_forgotten(project: Project) -> None:
    """R97, R91, D10."""
    session = in_thread(project)
    listed = project.json("threads", "ls", "--resource", "ann")
    (one,) = listed["threads"]
    assert (listed["count"], listed["next_cursor"]) == (1, None)
    assert (one["thread_id"], one["resource_id"], one["session_id"]) == ("support-7", "ann", session)
    assert project.json("threads", "show", "support-7", "--resource", "ann")["thread"] == one
    table = project.run("threads", "ls", "--resource", "ann").stdout
    assert session in table
    assert "support-7" in table
    shown = project.run("threads", "show", "support-7", "--resource", "ann").stdout
    assert all(word in shown for word in ("support-7", "ann", session, "Created", "Last used"))

    gone = project.json("threads", "rm", "support-7", "--resource", "ann")
    expected = {"success": True, "deleted": True, "thread_id": "support-7", "resource_id": "ann"}
    assert gone == {"schema": "cascade/1", **expected}
    again = project.run("threads", "rm", "support-7", "--resource", "ann")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "was not there" in again.stderr
    assert project.run("show", session).exit_code == 0, "the session stays"


def test_a_list_of_conversations_says_which_and_whose(project: Project) -> None:
    """R97: where a thread or a resource is asked for; other lists are as wide as they were."""
    session = in_thread(project)
    for asked in (("--thread", "support-7"), ("--resource", "ann")):
        headings, row = project.run("ls", *asked).stdout.splitlines()
        assert headings.split()[-2:] == ["THREAD", "RESOURCE"]
        assert (row.split()[0], row.split()[-2:]) == (session, ["support-7", "ann"])
    assert "THREAD" not in project.run("ls", "--cascade", "order").stdout


@pytest.mark.parametrize("whose", [("--resource", "bob"), ()], ids=["another's", "nobody's"])
def test_a_thread_that_is_not_there_exits_3_with_the_command_that_lists(
    project: Project, whose: tuple[str, ...]
) -> None:
    """R102, R150: one of another resource is as one that is not there."""
    in_thread(project)
    result = project.run("threads", "show", "support-7", *whose)
    assert result.exit_code == 3
    assert "'support-7'" in result.stderr
    (command,) = commands_in(result.stderr)
    assert command[:2] == ["threads", "ls"]
    listed = project.run(*command)
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "No threads" in listed.stderr


def test_a_thread_is_pointed_at_a_session_by_hand(project: Project) -> None:
    """R90: the row stays one, and a part of the id is enough."""
    first, second = project.ended(), project.ended()
    made = project.json("threads", "save", "t", first, "--resource", "ann")["thread"]
    moved = project.json("threads", "save", "t", second[:8], "--resource", "ann")["thread"]
    assert (made["session_id"], moved["session_id"]) == (first, second)
    assert moved["created_at"] == made["created_at"]
    assert project.json("threads", "ls", "--resource", "ann")["count"] == 1
    assert project.run("threads", "save", "t", "nowhere-1", "--resource", "ann").exit_code == 3
    third = project.started("--thread", "t", "--resource", "ann")
    assert project.json("show", third)["session"]["continues"] == second


def test_a_long_list_names_the_command_for_its_next_page(project: Project) -> None:
    session = project.ended()
    for number in range(3):
        project.cascades.threads.save(f"t{number}", "ann b", session)
    first = project.run("threads", "ls", "--resource", "ann b", "--limit", "2")
    second = project.run(*typed(first.stderr))
    assert ("t2" in first.stdout, "t1" in first.stdout, "t0" in second.stdout) == (True, True, True)
    assert commands_in(second.stderr) == []
    assert project.run("threads", "ls", "--cursor", "nonsense").exit_code == 2


def test_run_in_a_thread_that_runs_is_a_conflict_or_waits(project: Project) -> None:
    """D12: exit 4, with the session and the ways out; or `--queue`."""
    first = in_thread(project)
    refused = project.run("run", "order.yaml", "-i", "n=1", "--detach", *ANN)
    assert refused.exit_code == 4
    assert first in refused.stderr
    assert "--queue" in refused.stderr
    second = in_thread(project, "--queue")
    shown = project.json("show", second)["session"]
    assert (shown["status"], shown["reason"], shown["continues"]) == ("suspended", "signal", first)
    words = project.run("show", second).stdout
    assert shown["can_resume"] is False, "a resume is refused as long as its turn has not come"
    assert f"for its turn in the thread, after session {first}" in words
    assert not commands_in(words)
    assert "support-7 of ann" in words
    assert project.run("cancel", first).exit_code == 0
    assert project.json("show", second)["session"]["status"] == "active"
    assert f"Continues {first}" in project.run("show", second).stdout


def test_one_that_waits_names_the_session_that_a_worker_is_missing_for(project: Project) -> None:
    """R150: the command that is told runs the first in the line, since a resume of the others is refused."""
    first = in_thread(project)
    for _ in range(2):
        result = project.run("run", "order.yaml", "-i", "n=1", "--detach", *ANN, "--queue")
        assert f"for the end of session {first}" in result.stderr
        assert ["resume", first, "--local"] in commands_in(result.stderr)
    assert project.run("resume", first, "--local").exit_code == 0


def test_one_that_waits_would_not_be_resumed_with_others(project: Project) -> None:
    first, second = in_thread(project), in_thread(project, "--queue")
    found = project.json("resume", "--thread", "support-7", "--dry-run", code=4)
    assert (found["done"], list(found["refused"])) == ([], [second])
    assert f"waits for session {first}" in found["refused"][second]


def test_a_watched_run_waits_for_its_turn_and_then_for_its_end(project: Project) -> None:
    """D12: it says for whom it waits, and to be queued is no end."""
    first = in_thread(project)

    def end_it() -> None:
        while project.cascades.threads.get("support-7", "ann") == first:
            time.sleep(0.05)
        project.cascades.session(first).cancel()

    by_another = threading.Thread(target=end_it)
    by_another.start()
    result = project.run("run", "order.yaml", "-i", "n=1", *ANN, "--queue", "--timeout", "3s")
    by_another.join()
    assert result.exit_code == 124, "no worker is there to run it"
    assert f"It waits for its turn in thread support-7: for the end of session {first}" in result.stderr
    assert "There is no living worker" in result.stderr, "told when its turn has come, not before"
    assert result.stderr.index("waits for its turn") < result.stderr.index("no living worker")


def test_what_runs_in_this_terminal_cannot_wait(project: Project) -> None:
    in_thread(project)
    result = project.run("run", "order.yaml", "-i", "n=1", "--local", *ANN, "--queue")
    assert result.exit_code == 2
    assert "here and now" in result.stderr


def test_a_conversation_goes_on_in_this_terminal(project: Project) -> None:
    """R98."""
    for _ in range(2):
        assert project.run("run", "order.yaml", "-i", "n=1", "--local", *ANN).exit_code == 0
    last, first = project.json("ls")["sessions"]
    assert project.json("show", last["session_id"])["session"]["continues"] == first["session_id"]
    assert (last["thread_id"], last["resource_id"]) == ("support-7", "ann")


def test_mode_and_time_are_said_by_run(project: Project) -> None:
    """R40, R45."""
    session = project.started("--mode", "copilot", "--expires-in", "2h")
    shown = project.json("show", session)["session"]
    assert shown["mode"] == "copilot"
    left = datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=1, minutes=55) < left <= timedelta(hours=2)
    project.started()
    assert [one.id for one in project.cascades.sessions(mode="copilot")] == [session]
    assert [one["session_id"] for one in project.json("ls", "--mode", "copilot")["sessions"]] == [session]
    resumed = project.run("resume", session)
    assert resumed.exit_code == 0
    long_ago = "UPDATE session_states SET expires_at = '2001-01-01 00:00:00.000000' WHERE session_id = ?"
    project.runtime.store.database.transaction(lambda conn: conn.exec_driver_sql(long_ago, (session,)))
    late = project.run("resume", session)
    assert late.exit_code == 5
    assert "expired at 2001-01-01" in late.stderr
    assert project.run("run", "order.yaml", "-i", "n=1", "--expires-in", "0s").exit_code == 2


def test_a_thread_named_by_what_the_shell_would_take_apart_is_spelled_for_it(project: Project) -> None:
    """R150: the command in the words works."""
    for resource in ("ann's cat", "-x"):
        result = project.run("threads", "show", "t", f"--resource={resource}")
        assert project.run(*typed(result.stderr)).exit_code == 0
