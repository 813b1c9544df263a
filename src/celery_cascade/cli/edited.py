"""What somebody changed in a cascade file since a session was started from it (D7), as lines to print."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator

import click

from celery_cascade.cli.words import counted, printable

#: Lines of the difference that are shown.
MOST_LINES = 40
#: Lines of a file up to which it is compared; beyond, comparing may take longer than anybody waits.
MOST_COMPARED = 5000
_WIDEST = 200
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def difference(stored: bytes, now: bytes, name: str, hide: Callable[[str], str] = str) -> list[str]:
    """A unified diff of the definition that a session has and its file as it is, cut to a sensible length."""
    one, other = _lines(stored), _lines(now)
    if max(len(one), len(other)) > MOST_COMPARED:
        return [f"They are too long to be compared here: {len(one):,} lines then, {len(other):,} now."]
    lines = list(difflib.unified_diff(one, other, f"{name} then", f"{name} now", lineterm="", n=2))
    if not lines:
        return ["They differ only in line ends or in what no text shows."]
    shown = [_painted(hide(line)) for line in lines[:MOST_LINES]]
    more = len(lines) - len(shown)
    return [*shown, f"… and {counted(more, 'line')} more"] if more else shown


def _lines(body: bytes) -> list[str]:
    return body.decode("utf-8", "replace").splitlines()


def _painted(line: str) -> str:
    plain = printable(line)
    short = plain if len(plain) <= _WIDEST else f"{plain[:_WIDEST]}…"
    colour = None if line.startswith(("+++", "---")) else _COLOURS.get(line[:1])
    return click.style(short, fg=colour) if colour else short


def edited(session_id: str, name: str, stored: bytes, now: bytes, hide: Callable[[str], str] = str) -> Iterator[str]:
    """That a file has changed, and how; `hide` takes the secrets out of a line."""
    yield f"{printable(name)} has changed since session {session_id} was started:"
    yield from (f"    {line}" for line in difference(stored, now, name, hide))
