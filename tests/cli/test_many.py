"""`cancel`, `suspend`, `resume` and `rm` of several sessions at once."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from celery_cascade.cli import many
from celery_cascade.cli.progress import Progress
from celery_cascade.persistence.rows import StepKey, WorkerRow
from cli.kit import Project, commands_in


@contextmanager
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody sits there."""

    class Terminal:
        def __getattr__(self, name: str) -> Any:
            return getattr(sys.stdin, name)

        def isatty(self) -> bool:
            return True

    class Sys:
        stdin = Terminal()

    with monkeypatch.context() as patch:
        patch.setattr(many, "sys", Sys)
        yield


def test_several_ids_are_cancelled_and_what_cannot_be_is_named(project: Project) -> None:
    """R135: exit 4 if one was refused; the others are done."""
    first, second, done = project.started(), project.started(), project.ended()
    result = project.run("cancel", first[:8], second, done, "--yes", "--reason", "recalled")
    assert result.exit_code == 4
    assert result.stdout.splitlines() == [first, second]
    assert f"Refused: session {done} is completed; it cannot be cancelled any more" in result.stderr
    assert "Cancelled 2 sessions (2 active); 1 refused." in result.stderr
    (action,) = project.runtime.store.actions(first)
    assert (action["action"], action["reason"]) == ("cancel", "recalled")
    assert action["actor"]


def test_an_id_that_is_none_stops_it_before_anything_is_done(project: Project) -> None:
    session_id = project.started()
    assert project.run("cancel", session_id, "nope-123", "--yes").exit_code == 3
    assert project.json("show", session_id)["session"]["status"] == "active"


def test_a_filter_cancels_what_it_finds(project: Project) -> None:
    ids = [project.started("--tag", "recall") for _ in range(3)]
    other = project.started()
    found = project.json("cancel", "--tag", "recall", "--yes")
    assert (set(found["done"]), found["refused"], found["dry_run"]) == (set(ids), {}, False)
    assert found["by_status"] == {"active": 3}
    assert project.json("show", other)["session"]["status"] == "active"
    again = project.run("cancel", "--tag", "recall", "--yes")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "No such sessions." in again.stderr


def test_a_dry_run_lists_them_with_counts_and_does_nothing(project: Project) -> None:
    ids = [project.started(), project.started()]
    assert project.run("suspend", ids[0]).exit_code == 0
    result = project.run("cancel", "--cascade", "order", "--dry-run")
    assert (result.exit_code, sorted(result.stdout.split())) == (0, sorted(ids))
    assert "Would cancel 2 sessions (1 active, 1 suspended)." in result.stderr
    assert [one["status"] for one in project.json("ls")["sessions"]] == ["active", "suspended"]
    assert project.json("cancel", ids[0], "--dry-run")["done"] == [ids[0]]


@pytest.mark.parametrize("verb", ["cancel", "suspend", "resume", "rm"])
def test_ids_or_filters_never_both_never_neither(project: Project, verb: str) -> None:
    session_id = project.started()
    for arguments in ([], [session_id, "--cascade", "order"], ["--yes"]):
        result = project.run(verb, *arguments)
        assert result.exit_code == 2
        assert "say which sessions" in result.stderr


def test_without_yes_and_without_a_terminal_it_is_refused(project: Project) -> None:
    ids = [project.started(), project.started()]
    for arguments in (ids, ["--cascade", "order"]):
        result = project.run("cancel", *arguments, input="y\n")
        assert result.exit_code == 2
        assert "2 sessions would be cancelled, and nobody is there to confirm it" in result.stderr
        assert "--yes" in result.stderr
    assert project.json("ls", "--status", "active")["count"] == 2


def test_at_a_terminal_it_asks(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.started(), project.started()
    with at_a_terminal(monkeypatch):
        no = project.run("cancel", "--cascade", "order", input="n\n")
        assert "Cancel 2 sessions (2 active)?" in no.stderr
        assert (no.exit_code, "nothing was cancelled" in no.stderr) == (2, True)
        assert "--dry-run" in no.stderr, "the next thing to do, and not the help of everything"
        assert project.run("cancel", "--cascade", "order", input="y\n").exit_code == 0


def test_suspend_stops_one_and_says_how_it_goes_on(project: Project) -> None:
    """R129."""
    session_id = project.started()
    result = project.run("suspend", "@last", "--reason", "the bank is down")
    assert (result.exit_code, result.stdout) == (0, session_id + "\n")
    shown = project.json("show", session_id)["session"]
    assert (shown["status"], shown["reason"], shown["can_resume"]) == ("suspended", "operator", True)
    assert shown["actions"][0]["reason"] == "the bank is down"
    again = project.run("suspend", session_id)
    assert (again.exit_code, f"session {session_id} is suspended" in again.stderr) == (4, True)
    (command,) = commands_in(result.stderr)
    assert project.run(*command).exit_code == 0
    assert project.json("suspend", session_id)["session"]["status"] == "suspended"


def test_a_resume_of_several_says_once_that_no_worker_is_there(project: Project) -> None:
    """D2, D8: as that of one does, with both ways out; to stderr, and neither before it is done nor with -q."""
    ids = [project.started() for _ in range(3)]
    assert "no living worker" not in project.run("suspend", *ids, "--yes").stderr
    assert "no living worker" not in project.run("resume", *ids, "--dry-run").stderr
    result = project.run("resume", "--cascade", "order", "--yes")
    assert (result.exit_code, sorted(result.stdout.split())) == (0, sorted(ids))
    assert result.stderr.count("There is no living worker; the sessions are stored and wait for one.") == 1
    assert result.stderr.index("Resumed 3 sessions") < result.stderr.index("no living worker")
    assert re.search(r"or run one of them in this terminal, without a worker:\n .* resume \S+ --local", result.stderr)
    project.run("suspend", *ids, "--yes")
    quiet = project.run("resume", *ids, "--yes", "-q")
    assert (quiet.exit_code, quiet.stderr) == (0, "")


def test_a_resume_that_queues_nothing_or_that_somebody_runs_says_nothing_of_workers(project: Project) -> None:
    """D2: only where it is so."""
    ids = [project.started(), project.started()]
    project.run("suspend", *ids, "--yes")
    project.runtime.store.add_worker(WorkerRow(id="w", nodename="celery@there", host="elsewhere", pid=1))
    assert "worker" not in project.run("resume", *ids, "--yes").stderr
    refused = project.run("resume", project.ended(), project.ended(), "--yes")
    assert refused.exit_code == 4
    assert "no living worker" not in refused.stderr


def test_resume_of_all_that_failed(project: Project) -> None:
    ids = {project.ended("broken.yaml") for _ in range(2)}
    found = project.json("resume", "--status", "failed", "--step", "boom", "--yes", "--reason", "mended")
    assert set(found["done"]) == ids
    assert project.json("ls", "--status", "active")["count"] == 2
    for option in ("--again", "--watch", "--local", "--done=1"):
        assert project.run("resume", "--cascade", "broken", option, "--yes").exit_code == 2


def test_rm_by_a_filter_deletes_what_has_ended_and_leaves_what_can_go_on(project: Project) -> None:
    """D9, D10: what failed goes only if its status is named."""
    done, failed, runs = project.ended(), project.ended("broken.yaml"), project.started()
    kept = project.ended()
    project.run("keep", kept)
    found = project.json("rm", "--since", "1h", "--yes", code=4)
    assert (found["done"], list(found["refused"])) == ([done], [kept])
    assert "is kept" in found["refused"][kept]
    assert project.json("rm", "--status", "failed", "--yes")["done"] == [failed]
    assert {one["session_id"] for one in project.json("ls")["sessions"]} == {runs, kept}


def test_many_refused_ones_are_named_up_to_a_point(project: Project) -> None:
    ids = [project.ended() for _ in range(23)]
    result = project.run("cancel", *ids, "--yes", "-q")
    assert result.exit_code == 4
    assert result.stderr.count("Refused: ") == 20
    assert "… and 3 more were refused; --json names them all" in result.stderr
    assert len(project.json("cancel", *ids, "--yes", code=4)["refused"]) == 23


def test_interrupted_it_says_how_many_were_done_and_goes_on_when_called_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [project.started() for _ in range(3)]
    real = many.walk

    def interrupted(*args: Any, **options: Any) -> Iterator[Any]:
        yield next(real(*args, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(many, "walk", interrupted)
    result = project.run("cancel", "--cascade", "order", "--yes")
    assert result.exit_code == 130
    assert len(result.stdout.split()) == 1
    assert "Interrupted: 2 of 3 are left. The same command does the rest." in result.stderr
    monkeypatch.setattr(many, "walk", real)
    assert len(project.json("cancel", "--cascade", "order", "--yes")["done"]) == 2
    assert project.json("ls", "--status", "cancelled")["count"] == len(ids)


@pytest.mark.parametrize("left", [1, 0])
def test_interrupted_in_the_middle_of_one_that_one_is_told_too(
    project: Project, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """R135: it has done what it says, and says what it has done; nothing is left, so nothing is interrupted."""
    ids = [project.started() for _ in range(2 + left)]
    real = many.walk

    def pressed(*args: Any, **options: Any) -> Iterator[Any]:
        for number, one in enumerate(real(*args, **options), start=1):
            if number == 2:
                os.kill(os.getpid(), signal.SIGINT)  # it is done to this one, and not yet told
            yield one

    monkeypatch.setattr(many, "walk", pressed)
    result = project.run("cancel", "--cascade", "order", "--yes")
    cancelled = [one for one in ids if project.json("show", one)["session"]["status"] == "cancelled"]
    assert sorted(result.stdout.split()) == sorted(cancelled)
    assert len(cancelled) == 2
    assert result.exit_code == (130 if left else 0)
    assert ("1 of 3 are left" in result.stderr) == bool(left)


def test_a_second_ctrl_c_does_not_wait_for_the_session_in_hand(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R135: the database may hang."""
    project.started()

    def hanging(*args: Any, **options: Any) -> Iterator[Any]:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        yield from ()

    monkeypatch.setattr(many, "walk", hanging)
    before = signal.getsignal(signal.SIGINT)
    result = project.run("cancel", "--cascade", "order", "--yes")
    assert result.exit_code == 130
    assert "Interrupted: 1 of 1 are left." in result.stderr
    assert signal.getsignal(signal.SIGINT) is before


# -- progress
class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("terminal", "every", "lines"), [(True, 1, 9), (False, 10, 0)])
def test_progress_is_told_each_second_on_a_terminal_and_seldom_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, every: int, lines: int
) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    clock = Clock()
    progress = Progress(10_000, "cancelled", clock=clock)
    for tenth in range(95):
        clock.now = tenth / 10
        progress.tick(tenth)
    assert stream.getvalue().count(" of 10,000 cancelled") == lines
    clock.now = every + 10.0
    progress.tick(312)
    progress.end()
    assert "312 of 10,000 cancelled" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K" if terminal else "cancelled\n")


def test_what_was_asked_for_is_told_while_a_step_still_runs(project: Project) -> None:
    """R129: `operator` alone would not say what is to come; a reason does not hide it."""
    session_id = project.started()
    assert project.runtime.store.claim(StepKey(session_id, "one"), attempt=1, token="t", worker="w", runner="r")
    assert project.run("suspend", session_id, "--reason", "lunch").exit_code == 0
    assert project.json("show", session_id)["session"]["reason"] == "suspended requested"
    assert "active, suspended requested" in project.run("ls").stdout
    back = project.run("resume", session_id)
    assert back.exit_code == 0
    assert f"Session {session_id} goes on" in back.stderr
    assert "nothing to resume" not in back.stderr
    assert project.json("show", session_id)["session"]["reason"] != "suspended requested"
    assert project.run("cancel", session_id, "--reason", "recalled").exit_code == 0
    assert project.json("show", session_id)["session"]["reason"] == "cancelled requested: recalled"
