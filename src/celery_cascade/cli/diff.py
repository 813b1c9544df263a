"""`cascade diff`: two sessions side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import click

from celery_cascade.cli import completing
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.exits import DONE, FAILED
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import Verb, json_option
from celery_cascade.cli.words import is_json, local, out, out_json, painted, preview, printable, say, took
from celery_cascade.sessions.comparing import parts_of
from celery_cascade.sessions.diff import PARTS
from celery_cascade.sessions.text_diff import unified
from celery_cascade.words import listed

_EXAMPLE = (
    "celery -A proj cascade diff 3f2a91 9c41d0",
    "celery -A proj cascade diff @last-failed @last --only inputs,outputs",
)
#: Changes of one part, and lines of one text, that are shown.
_SHOWN = 100
_LINES = 400
_SLOWEST = 5
_COLOURS = {"-": "red", "+": "green", "@": "cyan"}


@click.command(cls=Verb, example=_EXAMPLE, exits={0: "they are the same", 1: "they differ", 3: "one is not found"})
@click.argument("a", metavar="A", shell_complete=completing.sessions)
@click.argument("b", metavar="B", shell_complete=completing.sessions)
@click.option("--only", multiple=True, metavar="PART", help=f"Only these parts: {', '.join(PARTS)}.")
@json_option
def diff(a: str, b: str, only: tuple[str, ...], as_json: bool) -> NoReturn:
    """Show how two sessions differ: definition, inputs, the way they took, steps, outputs, context, status.

    A fork beside its origin also says where they part. How long steps took is told, and is no difference. Long values
    are cut here; --json has them whole. The exit codes are those of `diff`.
    """
    wanted = parts_of([word.strip() for part in only for word in part.split(",")] or None)
    caller = Caller.here()
    store = caller.runtime.store
    found = caller.cascades.diff(session_id(store, a), session_id(store, b), only=wanted)
    if is_json(click.get_current_context()):
        out_json({"diff": found})
    else:
        _tell(found)
    raise click.exceptions.Exit(DONE if found["same"] else FAILED)


def _tell(found: Mapping[str, Any]) -> None:
    if found["same"]:
        say("They are the same" + (f" in {listed(name for name in PARTS if name in found)}." if _some(found) else "."))
    else:
        out(f"{click.style('---', fg='red')} {_who(found['a'])}")
        out(f"{click.style('+++', fg='green')} {_who(found['b'])}")
    if found["parts_at"]:
        say(_parting(found["parts_at"]))
    for name in found["differs"]:
        out(f"\n{click.style(name, bold=True)}")
        for line in _part(name, found[name]):
            out(line)
    for line in _asides(found):
        say(line)


def _some(found: Mapping[str, Any]) -> bool:
    return any(name not in found for name in PARTS)


def _who(one: Mapping[str, Any]) -> str:
    name = f" ({printable(one['name'])})" if one["name"] else ""
    cascade = printable(one["cascade_id"] or "-")
    began = local(one["started_at"] or one["created_at"])
    return f"{one['session_id']}{name}  {cascade}  {painted(one['status'])}  {began}"


def _parting(parts_at: Mapping[str, Any]) -> str:
    origin = f"session {parts_at['session_id']}"
    where = f" at step {printable(parts_at['step'])}" if parts_at["step"] else ""
    when = f", after version {parts_at['version']} of {origin}" if parts_at["version"] else f" at the start of {origin}"
    kept = f" Not run again: {listed(parts_at['kept'])}." if parts_at["kept"] else ""
    return f"They part{where}{when}.{kept}"


def _part(name: str, part: Any) -> Iterator[str]:
    if name == "definition" and part["diff"]:
        yield f"  {part['a']['sha256'] or '-'}\n  {part['b']['sha256'] or '-'}"
        yield from _coloured(part["diff"].splitlines())
        return
    if name == "definition":
        yield "  The bytes differ, and no character does."
    changes = part["changes"] if isinstance(part, dict) else part
    for change in changes[:_SHOWN]:
        yield from _change(change)
    if len(changes) > _SHOWN:
        yield f"  … and {len(changes) - _SHOWN:,} more changes; --json has them all"


def _change(change: Mapping[str, Any]) -> Iterator[str]:
    a, b = change.get("a"), change.get("b")
    path = printable(change["path"])
    if isinstance(a, str) and isinstance(b, str) and "\n" in a + b:
        yield f"  {path}:"
        yield from _coloured(unified(a, b))
        return
    yield f"  {path}: {_side(change, 'a', 'red')} → {_side(change, 'b', 'green')}"


def _side(change: Mapping[str, Any], side: str, colour: str) -> str:
    return click.style(preview(change[side]), fg=colour) if side in change else "(nothing)"


def _coloured(lines: list[str]) -> Iterator[str]:
    for line in lines[:_LINES]:
        colour = _COLOURS.get(line[:1])
        text = printable(line, lines=True)
        yield f"  {click.style(text, fg=colour) if colour else text}"
    if len(lines) > _LINES:
        yield f"  … and {len(lines) - _LINES:,} more lines; --json has them all"


def _asides(found: Mapping[str, Any]) -> Iterator[str]:
    """What is told and is no difference."""
    path = found.get("path")
    if path and not path["same_order"] and not path["changes"]:
        yield "The same steps ended, in another order."
    durations = found.get("durations")
    if durations:
        total = durations["total"]
        if None not in (total["a"], total["b"]):
            yield f"Took {took(total['a'])} → {took(total['b'])}.{_slowest(durations['steps'])}"


def _slowest(steps: list[dict[str, Any]]) -> str:
    both = [step for step in steps if None not in (step["a"], step["b"]) and abs(step["a"] - step["b"]) >= 1]
    both.sort(key=lambda step: -abs(step["a"] - step["b"]))
    told = (f"{printable(step['step'])} {took(step['a'])} → {took(step['b'])}" for step in both[:_SLOWEST])
    return f" Most: {', '.join(told)}." if both else ""
