"""`cascade replay`: a session as it was, in a pipe and under somebody's hands."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from celery_cascade.cli import keys, replay
from celery_cascade.cli.replaying import fitted, waits
from celery_cascade.persistence import tables
from cli.kit import Project


# -- printed
def test_in_a_pipe_the_timeline_is_printed_a_line_a_version(project: Project) -> None:
    """R23, R24: of a finished run as well."""
    session_id = project.ended("broken.yaml")
    result = project.run("replay", session_id)
    lines = result.stdout.splitlines()
    versions = project.json("replay", session_id)["versions"]
    assert len(lines) == len(versions) == project.json("show", session_id)["session"]["version"]
    assert [line.split()[0] for line in lines] == [str(entry["version"]) for entry in versions]
    assert lines[0].endswith("  started")
    assert lines[-1].endswith("  failed")
    assert [line.split("  ", 2)[2] for line in lines] == [entry["what"] for entry in versions]


def test_the_state_at_a_version_is_printed(project: Project) -> None:
    """R23, R25: a banner says that this is the past."""
    session_id = project.ended()
    result = project.run("replay", session_id, "--at", "2")
    assert result.exit_code == 0
    assert result.stderr.startswith(f"Viewing past execution of session {session_id}: version 2 of 4, ")
    status, step, other = (
        next(line for line in result.stdout.splitlines() if line.startswith(word)) for word in ("Status", "one", "two")
    )
    assert status.split() == ["Status", "active"]
    assert step.split()[1] == "succeeded"
    assert other.split()[1] in ("queued", "running")

    told = project.json("replay", session_id, "--at", "2")
    assert told["session"]["completed_steps"] == ["one"]
    assert [step["id"] for step in told["cascade"]["steps"]] == ["one", "two"], "with the configuration of each step"
    last = project.json("replay", session_id, "--at", "4")["session"]
    now = project.json("show", session_id)["session"]
    assert {key: last[key] for key in now} == now


def test_a_version_that_is_not_there_is_a_usage_error_with_the_range(project: Project) -> None:
    session_id = project.ended()
    result = project.run("replay", session_id, "--at", "9")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no version 9: it has the versions 1 to 4" in result.stderr
    assert project.run("replay", session_id, "--at", "1", "--speed", "2").exit_code == 2
    assert project.run("replay", session_id, "--speed", "0").exit_code == 2


def test_a_session_that_still_runs_shows_what_there_is_and_says_so(project: Project) -> None:
    """R24."""
    session_id = project.started()
    result = project.run("replay", session_id)
    assert result.stderr == f"Session {session_id} still runs; this is what there is up to version 1.\n"
    assert len(result.stdout.splitlines()) == 1


def test_it_plays_by_itself_without_a_terminal(project: Project) -> None:
    session_id = project.ended()
    played = project.run("replay", session_id, "--speed", "1000")
    assert played.stdout == project.run("replay", session_id).stdout


# -- pure
def test_a_wait_is_the_time_that_passed_by_the_speed_and_never_long() -> None:
    times = ("2030-01-01T00:00:00Z", "2030-01-01T00:00:01Z", "2030-01-02T00:00:00Z")
    timeline = [{"at": at} for at in times]
    assert waits(timeline, 4.0) == [0.25, 2.0]
    assert waits(timeline[:1], 1.0) == []


def test_keys_lead_forward_and_back_and_never_beyond() -> None:
    assert [keys.meaning(key) for key in (b"l", b" ", b"\x1b[C", b"h", b"\x1b[D", b"g", b"G", b"q", b"x")] == [
        "forward", "forward", "forward", "back", "back", "first", "last", "quit", None,
    ]  # fmt: skip
    assert [replay.moved(2, key, 3) for key in ("forward", "back", "first", "last")] == [3, 1, 1, 3]
    assert (replay.moved(3, "forward", 3), replay.moved(1, "back", 3)) == (3, 1)


def test_a_key_may_come_in_pieces_and_several_at_once() -> None:
    read, write = os.pipe()
    pressed = keys.Keys(read)
    os.write(write, b"lh\x1b[Cx\x1b[9;5~q")
    assert [pressed.read() for _ in range(6)] == ["forward", "back", "forward", None, None, "quit"]
    assert pressed.read(0.0) is None
    os.close(write)
    assert pressed.read() == "quit", "the terminal is gone"
    os.close(read)


def test_a_screen_that_is_too_small_says_how_to_see_the_rest() -> None:
    assert fitted(["a", "b"], 2, 7) == ["a", "b"]
    assert fitted(["a", "b", "c"], 2, 7) == ["a", "… 2 more lines; all of them with --at 7"]


def test_a_line_that_the_terminal_wraps_takes_the_room_that_it_takes() -> None:
    """R27: else the top of the screen, which says what it is, scrolls away."""
    wide = "x" * 41
    assert fitted([wide, "b", "c"], 4, 7, columns=40) == [wide, "b", "c"]
    assert fitted([wide, "b", "c"], 3, 7, columns=40) == [wide, "… 2 more lines; all of them with --at 7"]
    assert fitted(["a", wide], 2, 7, columns=40) == ["a", "… 1 more line; all of it with --at 7"]
    coloured = f"\x1b[36m{'x' * 40}\x1b[0m"
    assert fitted([coloured, "b"], 2, 7, columns=40) == [coloured, "b"]
    assert fitted(["字" * 21, "b"], 2, 7, columns=40) == ["… 2 more lines; all of them with --at 7"]


# -- at a terminal
class Terminal:
    """A child with a terminal of its own, and what it shows."""

    def __init__(self, project: Project, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.main, self._side = pty.openpty()
        self.before = termios.tcgetattr(self._side)
        command = [sys.executable, "-m", "celery_cascade.cli", "-A", project.name, "replay", *arguments]
        side = self._side
        streams: Any = {"stdin": side, "stdout": side, "stderr": side}
        self.child = project.popen(command, env={"TERM": "xterm", **(env or {})}, start_new_session=True, **streams)
        self.seen = ""

    def until(self, text: str, seconds: float = 30.0) -> str:
        """What is shown up to this text; the next look begins after it."""
        give_up_at = time.monotonic() + seconds
        while text not in self.seen:
            left = give_up_at - time.monotonic()
            assert left > 0, f"{text!r} is not shown, but {self.seen!r}"
            if select.select([self.main], [], [], left)[0]:
                self.seen += os.read(self.main, 4096).decode()
        before, _, self.seen = self.seen.partition(text)
        return before

    def press(self, key: bytes) -> None:
        os.write(self.main, key)

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self._side) == self.before

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(30)
        os.close(self.main)
        os.close(self._side)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def test_at_a_terminal_one_goes_forward_and_back_and_leaves_it_as_it_was(
    project: Project, terminals: list[Terminal]
) -> None:
    """R23, R25: by real keys, on a real terminal."""
    session_id = project.ended()
    terminals.append(terminal := Terminal(project, session_id, env={"NO_COLOR": "1"}))
    banner = f"Viewing past execution of session {session_id}: version"
    terminal.until(f"{banner} 1 of 4, ")
    assert "What      started" in terminal.until("Status")
    terminal.until("G last; q leaves")
    assert not terminal.restored, "single keys are read"
    terminal.press(b"l")
    terminal.until(f"{banner} 2 of 4, ")
    terminal.press(b"\x1b[D")
    terminal.until(f"{banner} 1 of 4, ")
    terminal.press(b"G")
    terminal.until(f"{banner} 4 of 4, ")
    assert "What      completed" in terminal.until("Progress  2 of 2")
    assert "\x1b[3" not in terminal.until("q leaves"), "no colour"
    terminal.press(b"q")
    assert terminal.child.wait(30) == 0
    assert terminal.restored


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_terminal_is_put_back_when_the_replay_is_ended(
    project: Project, terminals: list[Terminal], how: signal.Signals
) -> None:
    terminals.append(terminal := Terminal(project, project.ended()))
    terminal.until("G last; q leaves")
    terminal.child.send_signal(how)
    assert terminal.child.wait(30) == 128 + how
    assert terminal.restored


def test_a_replay_that_plays_is_stopped_by_q(project: Project, terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(project, project.ended(), "--speed", "0.000001"))
    terminal.until("started")
    terminal.press(b"q")
    assert terminal.child.wait(30) == 0
    assert terminal.restored
    assert "completed" not in terminal.seen


# -- what is not stored, or cannot be read
def without_definition(project: Project, session_id: str) -> None:
    """As a session that an older system has left: steps, and no definition."""

    def work(conn: Any) -> None:
        old = sa.select(tables.sessions).where(tables.sessions.c.session_id == session_id)
        row = dict(conn.execute(old).mappings().one())
        steps = [dict(r) for r in conn.execute(sa.select(tables.steps)).mappings() if r["session_id"] == session_id]
        head = dict(conn.execute(sa.select(tables.heads)).mappings().one())
        conn.execute(sa.delete(tables.sessions))
        conn.execute(sa.insert(tables.sessions), {**row, "definition_digest": None, "input_data": "{}"})
        conn.execute(sa.insert(tables.heads), head)
        conn.execute(sa.insert(tables.steps), [{**step, "task": None} for step in steps])

    project.runtime.store.database.transaction(work)


def test_a_session_without_a_definition_is_put_together_from_its_steps(project: Project) -> None:
    """R18, R27: names in the order in which they were first seen, and a warning that says what is missing."""
    session_id = project.ended()
    without_definition(project, session_id)
    for told in (
        project.json("show", session_id)["session"],
        project.json("replay", session_id, "--at", "2")["session"],
    ):
        assert (told["_reconstructed"], told["_session_id"]) == (True, session_id)
        assert (told["source"], told["inputs"]) == ("reconstructed_from_logs", {})
        assert "configurations and inputs are not available" in told["warning"]
        assert [step["step"] for step in told["steps"]] == ["one", "two"]
        assert {step["task"] for step in told["steps"]} == {"unknown"}
    for verb in ("show", "replay", "definition"):
        result = project.run(verb, session_id)
        assert result.exit_code == 0
        assert "Warning: The definition of this session is not stored." in result.stderr
    known = project.json("definition", session_id)
    assert known["cascade"]["steps"][1] == {"id": "two", "task": "unknown", "inputs": {}}
    assert (known["definition"], known["input_data"]) == (None, {})
    raw = project.run("definition", session_id, "--raw")
    assert (raw.exit_code, raw.stdout) == (3, "")


def test_a_session_of_which_nothing_is_known_is_not_found(project: Project) -> None:
    """R19."""
    session_id = project.ended()
    without_definition(project, session_id)
    project.runtime.store.database.transaction(lambda conn: conn.execute(sa.delete(tables.steps)))
    for arguments in (("replay", session_id), ("replay", session_id, "--at", "1"), ("definition", session_id)):
        result = project.run(*arguments)
        assert result.exit_code == 3
        assert f"No data found for session {session_id}" in result.stderr


def test_a_definition_that_can_no_longer_be_read_is_still_seen(project: Project, monkeypatch: Any) -> None:
    """R20: its steps without their order, its text as it is stored, and why it cannot go on."""
    session_id = project.ended("broken.yaml")
    body = b"cascade: [\n"
    import hashlib

    digest = hashlib.sha256(body).hexdigest()

    def work(conn: Any) -> None:
        values = {"digest": digest, "cascade_id": "broken", "format": "yaml", "body": body}
        conn.execute(sa.insert(tables.definitions), values)
        row = dict(conn.execute(sa.select(tables.sessions)).mappings().one())
        kept = [
            (table, [dict(one) for one in conn.execute(sa.select(table)).mappings()])
            for table in (tables.heads, tables.steps, tables.attempts, tables.actions)
        ]
        conn.execute(sa.delete(tables.sessions))
        conn.execute(sa.insert(tables.sessions), {**row, "definition_digest": digest})
        for table, rows in kept:
            if rows:
                conn.execute(sa.insert(table), rows)

    project.runtime.store.database.transaction(work)
    raw = project.run("definition", session_id, "--raw")
    assert (raw.exit_code, raw.stdout_bytes) == (0, body)
    for verb in ("show", "replay"):
        result = project.run(verb, session_id)
        assert result.exit_code == 0, result.output
        assert "Warning: Failed to parse cascade definition: " in result.stderr
    shown = project.json("show", session_id)["session"]
    assert shown["warning"].startswith("Failed to parse cascade definition: ")
    assert "_reconstructed" not in shown
    resumed = project.run("resume", session_id)
    assert resumed.exit_code == 5
    assert "Failed to parse cascade definition: " in resumed.stderr
    stored = project.cascades.session(session_id).stored_cascade()
    assert (stored["cascade"], stored["definition"]) == (None, body.decode())
    assert stored["error"] == shown["warning"]


def test_what_a_session_was_started_with_is_told(project: Project) -> None:
    """R17: parsed and as text."""
    session_id = project.ended()
    stored = project.cascades.session(session_id).stored_cascade()
    assert set(stored) == {
        "cascade", "input_data", "cascade_id", "created_at", "config_path", "source", "definition",
    }  # fmt: skip
    assert stored["source"] == "cascade_sessions_table"
    assert stored["cascade"]["cascade"] == stored["cascade_id"] == "order"
    assert stored["definition"] == (project.folder / "order.yaml").read_text()
    json.dumps(stored)
