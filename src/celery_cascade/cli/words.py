"""Saying things: data to stdout, words to stderr, nothing that a terminal would obey."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from celery_cascade.cli.manner import in_ascii, manner

_JSON = "celery_cascade.json"
_COLOURS = {
    "completed": "green",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "expired": "yellow",
    "suspended": "yellow",
    "running": "cyan",
    "active": "cyan",
}
#: Characters of a value that a table or summary shows.
PREVIEW = 60


def out(text: str, *, theirs: bool = False) -> None:
    """Data, to stdout.

    Args:
        theirs: the text is the user's own, so `--ascii` changes nothing in it.
    """
    click.echo(text if theirs else in_ascii(text), color=colour_of(sys.stdout))


def say(text: str = "") -> None:
    """Words for a person, to stderr; not with `--quiet`."""
    if not manner().quiet:
        complain(text)


def complain(text: str) -> None:
    """Words about what is wrong, to stderr, however quiet we are to be."""
    click.echo(in_ascii(text), err=True, color=colour_of(sys.stderr))


def write_over(text: str) -> None:
    """Words on a terminal's stderr that the next ones replace."""
    click.echo(f"\r\x1b[K{in_ascii(text)}", err=True, nl=False)


def out_json(data: Mapping[str, Any]) -> None:
    """An object of the `cascade/1` shape, to stdout."""
    from celery_cascade.sessions.view import SCHEMA

    out_value({"schema": SCHEMA, **data})


def out_value(value: Any) -> None:
    """A value as JSON, to stdout; with `--ascii` other characters are escaped, so that it stays the same value."""
    click.echo(json.dumps(value, ensure_ascii=manner().ascii, indent=2))


def out_session(session: Any) -> None:
    """A session that a verb has acted on: all of it for `--json`, else its id."""
    if is_json(click.get_current_context()):
        out_json({"session": session.to_dict()})
    else:
        out(session.id)


def want_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    """Callback of `--json`: errors, too, are then told as JSON."""
    ctx.meta[_JSON] = value
    return value


def is_json(ctx: click.Context) -> bool:
    """Whether the caller asked for JSON."""
    return bool(ctx.meta.get(_JSON))


def colour_of(stream: Any) -> bool | None:
    """False where there must be no colour (no-color.org, celery --no-color); None = click decides by the tty."""
    ctx = click.get_current_context(silent=True)
    if os.environ.get("NO_COLOR") or (ctx is not None and ctx.find_root().params.get("no_color")):
        return False
    return None if stream.isatty() else False


def painted(text: str) -> str:
    """A status in its colour; `out` and `say` take the colour away where there must be none."""
    colour = _COLOURS.get(text.split(",")[0].split(" ")[0])
    return click.style(text, fg=colour) if colour else text


def printable(text: str, *, lines: bool = False) -> str:
    """Text of users without what a terminal would obey (R148)."""
    keep = "\n\t" if lines else ""
    return "".join(char if char.isprintable() or char in keep else "·" for char in text)


def preview(value: Any, longest: int = PREVIEW) -> str:
    """A value as one line of JSON; a long one is cut, with its size (R146)."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= longest:
        return printable(text)
    return f"{printable(text[:longest])}… ({size(len(text.encode('utf-8', 'replace')))})"


def why(error: Mapping[str, Any]) -> str:
    """An error in one line: step, type, message."""
    where = f"step {error['step']!r}: " if error.get("step") else ""
    return printable(f"{where}{error.get('type', 'unknown')}: {error.get('message', '')}", lines=True)


def size(count: int) -> str:
    """Bytes for people."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def took(seconds: float) -> str:
    """A span of time for people."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} d"


def local(moment: datetime | str | None, *, date: bool = True) -> str:
    """A moment in the local time zone (R149), with `--utc` in UTC with a Z; JSON has it in UTC."""
    if moment is None:
        return "-"
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    form = "%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S"
    return at.astimezone(UTC).strftime(f"{form}Z") if manner().utc else at.astimezone().strftime(form)


def counted(count: int, noun: str) -> str:
    """`1 session`, `2 sessions`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
