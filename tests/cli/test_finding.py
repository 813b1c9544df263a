"""`ls` with its filters: what is found, and what is refused (R29, R40, R129, R138)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from cli.kit import Project


def ids(project: Project, *args: str) -> list[str]:
    return [one["session_id"] for one in project.json("ls", *args)["sessions"]]


def test_ls_finds_by_each_of_its_filters(project: Project) -> None:
    """R29, R129."""
    waits, bad = project.started("--tag", "night", "--tag", "eu"), project.ended("broken.yaml", "--tag", "night")
    good = project.ended("order.yaml", "-i", "word=blue")
    assert ids(project, "--tag", "night") == [bad, waits]
    assert ids(project, "--tag", "night", "--tag", "eu") == [waits]
    assert ids(project, "--step", "one") == [waits]
    assert ids(project, "--step", "boom") == ids(project, "--error", "is broken") == [bad]
    assert ids(project, "--input", "word=blue") == ids(project, "--input", "blue") == [good]
    assert ids(project, "--input", "n=1", "--input", "none") == [waits]
    assert ids(project, "--root", "@last") == ids(project, "--root", good[:8]) == [good]
    assert ids(project, "--parent", good) == ids(project, "--fork-of", "gone-long-ago") == []
    assert ids(project, "--mode", "cascade", "--status", "failed") == [bad]
    assert ids(project, "--thread", "t") == ids(project, "--resource", "r") == []


def test_ls_finds_by_time(project: Project) -> None:
    """A moment without a zone is one of the clock on the wall."""
    session = project.started()
    here = datetime.now()
    tomorrow = (here + timedelta(days=1)).date().isoformat()
    for since in ("1h", "2020-01-01", (here - timedelta(minutes=5)).isoformat(), "2020-01-01T08:00:00Z"):
        assert ids(project, "--since", since) == [session], since
    assert ids(project, "--since", tomorrow) == ids(project, "--until", "1h") == []
    assert ids(project, "--until", tomorrow) == [session]


def test_pages_of_json_follow_one_another(project: Project) -> None:
    """D6."""
    sessions = [project.started() for _ in range(3)][::-1]
    first = project.json("ls", "--limit", "2")
    assert (first["count"], first["total_sessions"], first["total_exact"]) == (2, 3, True)
    second = project.json("ls", "--limit", "2", "--cursor", first["next_cursor"])
    assert [one["session_id"] for one in first["sessions"] + second["sessions"]] == sessions
    assert second["next_cursor"] is None


def test_ls_flags_what_nobody_runs(project: Project) -> None:
    """R138."""
    project.started()
    project.ended("broken.yaml")
    flags = [(one["is_zombie"], one["can_resume"]) for one in project.json("ls")["sessions"]]
    assert flags == [(False, True), (True, False)]


@pytest.mark.parametrize(
    "args",
    [
        ["--status", "paused"],
        ["--since", "yesterday"],
        ["--until", "2026-13-01"],
        ["--cursor", "x"],
        ["--cascade", ""],
        ["--tag", ""],
        ["--input", ""],
        ["--limit", "0"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_exits_2(project: Project, args: list[str]) -> None:
    """R138: never a list of something else."""
    result = project.run("ls", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


def test_the_root_of_nothing_is_not_found(project: Project) -> None:
    assert project.run("ls", "--root", "@last").exit_code == 3
