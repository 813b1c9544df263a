"""The unified diff of two texts: what `patch` takes, and never slow."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from celery_cascade.sessions.text_diff import unified

texts = st.lists(st.sampled_from(["a", "b", "c", "", "  d", "e\r"]), max_size=12).map("\n".join)


def applied(a: str, lines: list[str]) -> str:
    """What `patch` would make of it."""
    old, found, at = a.split("\n"), [], 0
    body = [line for line in lines if not line.startswith("\\")]
    for line in body:
        if head := re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", line):
            first = int(head[1]) if head[2] == "0" else int(head[1]) - 1
            found += old[at:first]
            at = first
            continue
        mark, text = line[0], line[1:]
        if mark in " -":
            assert old[at] == text, (line, old, at)
            at += 1
        if mark in " +":
            found.append(text)
    return "\n".join(found + old[at:])


@given(a=texts, b=texts)
def test_the_diff_makes_the_second_text_of_the_first(a: str, b: str) -> None:
    assert applied(a + "\n", unified(a + "\n", b + "\n")).rstrip("\n") == b.rstrip("\n")


@given(a=texts)
def test_no_difference_is_no_line(a: str) -> None:
    assert unified(a, a) == []


def test_it_reads_as_people_know_it() -> None:
    a = "cascade: order\nsteps:\n  - {id: a, task: add}\n  - {id: b, task: add}\n"
    b = a.replace("id: b, task: add", "id: b, task: mul")
    assert unified(a, b) == list(difflib.unified_diff(a.splitlines(), b.splitlines(), lineterm=""))[2:]


def test_a_missing_line_end_is_told() -> None:
    assert unified("a\nb\n", "a\nb") == ["@@ -1,2 +1,2 @@", " a", "-b", "+b", "\\ No newline at end of file"]


def steps_taken(work: Callable[[], object]) -> int:
    """How many lines of Python ran: a measure that no busy machine changes."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def test_twice_the_text_is_twice_the_work_where_every_other_line_differs() -> None:
    """A session of 10,000 steps is fine."""

    def work(size: int) -> Callable[[], object]:
        a = "\n".join(f"  - id: step{n}\n    task: add\n    with: [{n}]" for n in range(size))
        return lambda: unified(a, a.replace("task: add", "task: mul"))

    few, many = steps_taken(work(400)), steps_taken(work(1600))
    assert many < 5 * few
