"""How a session's past is shown: its timeline, its state at one version, and how long to wait between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import click

from celery_cascade.cli.show import step_table
from celery_cascade.cli.tables import plain_table
from celery_cascade.cli.words import local, painted, preview, printable, why
from celery_cascade.definition.places import width

#: Seconds that a replay waits at most between two versions: a night's pause is no part of the show.
LONGEST_WAIT = 2.0


def banner(state: Mapping[str, Any], latest: int) -> str:
    """Whose past is seen, and where in it."""
    where = f"version {state['version']} of {latest}, {local(state['at'])}"
    return f"Viewing past execution of session {state['session_id']}: {where}"


def line(entry: Mapping[str, Any], latest: int) -> str:
    """One version as a line of the timeline."""
    return f"{entry['version']:>{len(str(latest))}}  {local(entry['at'])}  {printable(entry['what'])}"


def state_lines(state: Mapping[str, Any], what: str) -> list[str]:
    """A state as lines: what made it, where the session stood, and each step."""
    reason = f", {printable(state['reason'])}" if state["reason"] else ""
    progress = state["progress"]
    lines = [
        f"What      {printable(what)}",
        f"Status    {painted(state['status'])}{reason}",
        f"Progress  {progress['done']} of {progress['total']} steps ({progress['percent']} %)",
        f"Phase     {printable(state['current_phase'] or '-')}",
        f"Inputs    {preview(state['inputs'])}",
    ]
    if state["context"]:
        lines.append(f"Context   {preview(state['context'])}")
    if state["conversation_history"]:
        said = state["conversation_history"][-1]
        count = len(state["conversation_history"])
        lines.append(f"Said      {count}, last {printable(said['role'])}: {preview(said['content'])}")
    if state["output"] is not None:
        lines.append(f"Output    {preview(state['output'])}")
    if state["error"]:
        lines.append(f"Error     {why(state['error'])}")
    if state.get("warning"):
        lines.append(f"Warning   {printable(state['warning'])}")
    return [*lines, "", *plain_table(*step_table(state["steps"]))]


def fitted(lines: Sequence[str], height: int, version: int, *, columns: int = 1000) -> list[str]:
    """As many lines as a screen has room for, and how to see the others."""
    if sum(rows(text, columns) for text in lines) <= height:
        return list(lines)
    shown, left = 0, height - 1  # one is for what is said of the others
    while shown < len(lines) and rows(lines[shown], columns) <= left:
        left -= rows(lines[shown], columns)
        shown += 1
    more = len(lines) - shown
    others = "1 more line; all of it" if more == 1 else f"{more} more lines; all of them"
    return [*lines[:shown], f"… {others} with --at {version}"]


def rows(text: str, columns: int) -> int:
    """How many rows of a terminal a line takes, which is wrapped where it is too long."""
    return max(1, -(-sum(map(width, click.unstyle(text))) // columns))


def waits(timeline: Sequence[Mapping[str, Any]], speed: float) -> list[float]:
    """Seconds from each version to the next: as long as it took, divided by `speed`, and never very long."""
    times = [datetime.fromisoformat(entry["at"]) for entry in timeline]
    return [min(LONGEST_WAIT, (later - then).total_seconds() / speed) for then, later in pairwise(times)]
