"""`cascade tree`: the family of a session."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import Verb, id_argument, json_option
from celery_cascade.cli.words import is_json, local, out, out_json, painted, printable
from celery_cascade.sessions.family import Member, family_of, walk
from celery_cascade.sessions.hiding import by_keys

_LINES = {"last": "└─ ", "more": "├─ ", "past": "   ", "beside": "│  "}
_ASCII = {"last": "`- ", "more": "|- ", "past": "   ", "beside": "|  "}


@click.command(cls=Verb, example=("celery -A proj cascade tree @last", "celery -A proj cascade tree 3f2a91 --json"))
@id_argument
@json_option
def tree(session: str, as_json: bool) -> None:
    """Show the family of a session: what its steps have started, its later turns, its forks and reruns.

    The tree begins with the session that all others come from, as far as it is still there; the one that was asked
    for is marked.
    """
    runtime = Caller.here().runtime
    asked = session_id(runtime.store, session)
    top, told = family_of(runtime, asked), by_keys(runtime).view
    if is_json(click.get_current_context()):
        out_json({"tree": _nested(top, told)})
        return
    lines = _lines()
    for member, lasts in walk(top):
        before = "".join(lines["past" if last else "beside"] for last in lasts[:-1])
        own = lines["last" if lasts[-1] else "more"] if lasts else ""
        out(f"{before}{own}{_words(told(member.to_dict()))}{'  <' if member.row['session_id'] == asked else ''}")


def _words(about: dict[str, Any]) -> str:
    cascade = printable(about["cascade_id"] or "-") + (f" ({printable(about['name'])})" if about["name"] else "")
    how = _relation(about)
    return "  ".join([about["session_id"], cascade, painted(about["status"]), *([how] if how else []),
                      local(about["created_at"])])  # fmt: skip


def _relation(about: dict[str, Any]) -> str:
    match about["relation"]:
        case "fork":
            return f"fork at {printable(about['step'])}" if about["step"] else "fork"
        case "rerun":
            return "rerun"
        case "child":
            return f"started by step {printable(about['step'])}" if about["step"] else "started by it"
        case "continuation":
            return f"turn {about['turn'] + 1}" if about["turn"] else "continues it"
        case _:
            return ""


def _lines() -> dict[str, str]:
    """Lines of a tree that the terminal's encoding has."""
    try:
        "".join(_LINES.values()).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _ASCII
    return _LINES


def _nested(top: Member, told: Callable[[Any], Any]) -> dict[str, Any]:
    """The tree as JSON has it, made without recursion: a chain of forks may be long."""
    made: dict[str, dict[str, Any]] = {}
    for member, _ in walk(top):
        made[member.row["session_id"]] = {**told(member.to_dict()), "below": []}
    for member, _ in walk(top):
        made[member.row["session_id"]]["below"] = [made[one.row["session_id"]] for one in member.below]
    return made[top.row["session_id"]]
