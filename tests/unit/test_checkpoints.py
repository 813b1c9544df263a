"""Checkpoints by their numbers, and what a resume says of them."""

from __future__ import annotations

from typing import Any

from celery_cascade.cli.edited import MOST_COMPARED, MOST_LINES, difference
from celery_cascade.cli.restored import MOST_STEPS, after, before
from celery_cascade.sessions.checkpoints import Checkpoint, checkpoints_in


def row(version: int, step: str, status: str = "succeeded", began: Any = True, item: int = -1) -> dict[str, Any]:
    return {"version": version, "step": step, "status": status, "started_at": began, "item": item}


def test_the_latest_is_the_one_with_the_highest_number() -> None:
    """R67: 100 comes after 9, whatever the order of rows or letters."""
    found = checkpoints_in([row(100, "b"), row(9, "z"), row(20, "a")])
    assert [one.number for one in found] == [9, 20, 100]
    assert found[-1].name("s") == "s_ckpt_100"


def test_what_is_no_checkpoint_is_left_out_and_without_any_there_is_an_empty_list() -> None:
    """R67: what runs, what failed, what was skipped along with another step's checkpoint, what a fork has kept."""
    rows = [
        row(1, "k"),
        row(3, "a", "running"),
        row(4, "b", "failed"),
        row(5, "c", "skipped", None),
        row(6, "d", "pending", None),
    ]
    assert checkpoints_in(rows) == []
    assert checkpoints_in([]) == []
    assert [one.step for one in checkpoints_in([*rows, row(7, "e", "skipped")])] == ["e"]


def test_a_resume_names_the_checkpoint_the_session_and_the_steps() -> None:
    """R72."""
    found = [Checkpoint(3, "charge"), Checkpoint(5, "label", 2)]
    assert list(before("3f2a91", found)) == [
        "Found program checkpoint: 3f2a91_ckpt_5",
        "Session: 3f2a91",
        "Steps to restore: ['charge', 'label[2]']",
    ]
    assert list(after("3f2a91", found)) == [
        "charge restored from 3f2a91_ckpt_3",
        "label[2] restored from 3f2a91_ckpt_5",
        "Program restored successfully",
        "2/2 steps restored.",
    ]


def test_of_many_steps_the_last_ones_are_named() -> None:
    """R72: ten thousand lines help nobody."""
    found = [Checkpoint(number + 2, f"s{number}") for number in range(10_000)]
    lines = [*before("x", found), *after("x", found)]
    assert len(lines) == 3 + MOST_STEPS + 2
    assert lines[2].endswith("'s9999'] (the last 10 of 10,000)")
    assert lines[-1] == "10,000/10,000 steps restored."


def test_without_a_checkpoint_that_is_said_and_nothing_is_called_restored() -> None:
    """R76."""
    (line,) = before("x", [])
    assert line.startswith("No program checkpoints found for session x")
    assert list(after("x", [])) == []


def test_a_changed_file_is_shown_as_a_difference() -> None:
    """D7."""
    lines = difference(b"a\nb\nc\n", b"a\nB\nc\n", "order.yaml")
    assert lines[:2] == ["--- order.yaml then", "+++ order.yaml now"]
    assert {"\x1b[31m-b\x1b[0m", "\x1b[32m+B\x1b[0m"} <= set(lines)


def test_a_difference_is_cut_made_harmless_and_never_takes_for_ever() -> None:
    """D7: what a file says must not reach the terminal as a command."""
    many = b"".join(b"line %d\n" % number for number in range(1000))
    assert len(difference(b"", many, "f")) == MOST_LINES + 1
    assert not any("\x1b[2J" in line for line in difference(b"a", b"\x1b[2J" + b"x" * 5000, "f"))
    assert max(map(len, difference(b"a", b"x" * 5000, "f"))) < 300
    assert difference(b"\n" * (MOST_COMPARED + 1), b"x", "f") == [
        f"They are too long to be compared here: {MOST_COMPARED + 1:,} lines then, 1 now."
    ]
    assert difference(b"a\n", b"a\r\n", "f") == ["They differ only in line ends or in what no text shows."]
    assert difference(b"\xff\xfe", b"ok", "f")
