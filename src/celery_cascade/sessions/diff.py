"""Two sessions side by side (pure): what was run, with what, which way it took, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery_cascade.definition.cascade import Source
from celery_cascade.persistence.fork import KEPT
from celery_cascade.sessions.parting import Parting
from celery_cascade.sessions.text_diff import unified
from celery_cascade.sessions.value_diff import MISSING, changes
from celery_cascade.states import StepStatus

_BRIEF = ("session_id", "cascade_id", "name", "status", "created_at", "started_at", "finished_at")
Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two.

    Args:
        session: as `Session.to_dict()` gives it.
        definition: what it runs.
        context: its variables, JSON-ready.
    """

    session: Mapping[str, Any]
    definition: Source
    context: Mapping[str, Any]


def compare(a: Side, b: Side, parts_at: Parting | None = None, only: Collection[str] | None = None) -> dict[str, Any]:
    """The differences, JSON-ready.

    Args:
        parts_at: where they part, if one is a fork of the other.
        only: parts to look at (`PARTS`); None = all.

    Returns `same`, `differs` (the parts that do), `a` and `b` (which sessions), `parts_at`, and each part. Durations
    are told and never differ: no two runs take the same time. Nor does the order in which steps that do not need each
    other ended.
    """
    found = {name: make(a, b) for name, make in _MAKERS.items() if only is None or name in only}
    differs = [name for name, part in found.items() if name != "durations" and _differs(part)]
    return {
        "same": not differs,
        "differs": differs,
        "a": {key: a.session.get(key) for key in _BRIEF},
        "b": {key: b.session.get(key) for key in _BRIEF},
        "parts_at": None if parts_at is None else {**parts_at.to_dict(), "kept": _kept(a, b, parts_at)},
        **found,
    }


def _differs(part: Any) -> bool:
    return bool(part["changes"] if isinstance(part, dict) else part)


def _kept(a: Side, b: Side, parts_at: Parting) -> list[str]:
    """The steps that neither has run since they parted."""
    forks = [side for side in (a, b) if side.session["session_id"] != parts_at.session_id]
    sets = [{_name(step) for step in side.session["steps"] if step["reason"] == KEPT} for side in forks]
    both = set.intersection(*sets) if sets else set()
    return [name for name in map(_name, forks[0].session["steps"] if forks else ()) if name in both]


# -- the parts
def _definition(a: Side, b: Side) -> dict[str, Any]:
    sides = {"a": _about(a), "b": _about(b)}
    same = (a.definition.body, a.definition.format) == (b.definition.body, b.definition.format)
    found = list(changes("definition", _identity(sides["a"]), _identity(sides["b"])))
    text = [] if same else unified(_text(a), _text(b))
    return {"changes": found, **sides, "diff": "\n".join(text) + "\n" if text else None}


def _about(side: Side) -> dict[str, Any]:
    source = side.definition
    return {"sha256": side.session["definition_sha256"], "format": source.format, "config_path": source.path}


def _identity(about: Mapping[str, Any]) -> dict[str, Any]:
    """Where a file lay is no difference of what it said."""
    return {key: about[key] for key in ("sha256", "format")}


def _text(side: Side) -> str:
    return side.definition.body.decode("utf-8", "replace")


def _inputs(a: Side, b: Side) -> list[dict[str, Any]]:
    return list(changes("inputs", a.session["inputs"], b.session["inputs"]))


def _path(a: Side, b: Side) -> dict[str, Any]:
    """Which steps ran, and which were skipped, in the order in which they ended."""
    way_a, way_b = _way(a), _way(b)
    return {
        "changes": list(changes("path", way_a, way_b)),
        "a": list(way_a),
        "b": list(way_b),
        "same_order": [name for name in way_a if name in way_b] == [name for name in way_b if name in way_a],
    }


def _way(side: Side) -> dict[str, str]:
    passed = [step for step in side.session["steps"] if _passed(step)]
    passed.sort(key=lambda step: _moment(step["finished_at"]) or float("inf"))
    return {_name(step): "skipped" if step["status"] == StepStatus.SKIPPED else "ran" for step in passed}


def _passed(step: Step) -> bool:
    return step["started_at"] is not None or step["status"] in (StepStatus.SUCCEEDED, StepStatus.SKIPPED)


def _steps(a: Side, b: Side) -> list[dict[str, Any]]:
    """Status, attempts and error of each step."""
    steps_a, steps_b = _by_name(a), _by_name(b)
    found: list[dict[str, Any]] = []
    for name in _names(steps_a, steps_b):
        one, other = steps_a.get(name), steps_b.get(name)
        kept = KEPT in ((one or {}).get("reason"), (other or {}).get("reason"))
        keys = ("status", "error") if kept else ("status", "attempt", "error")
        found += changes(f"steps.{name}", _told(one, keys), _told(other, keys))
    return found


def _told(step: Step | None, keys: Collection[str]) -> Any:
    return MISSING if step is None else {key: step[key] for key in keys}


def _outputs(a: Side, b: Side) -> list[dict[str, Any]]:
    """What each step gave, and the session's own output."""
    steps_a, steps_b = _by_name(a), _by_name(b)
    found: list[dict[str, Any]] = []
    for name in _names(steps_a, steps_b):
        found += changes(f"outputs.{name}", _given(steps_a.get(name)), _given(steps_b.get(name)))
    return found + list(changes("output", _result(a), _result(b)))


def _given(step: Step | None) -> Any:
    return step["output"] if step is not None and step["status"] == StepStatus.SUCCEEDED else MISSING


def _result(side: Side) -> Any:
    return side.session["output"] if side.session["status"] == "completed" else MISSING


def _context(a: Side, b: Side) -> list[dict[str, Any]]:
    return list(changes("context", dict(a.context), dict(b.context)))


def _status(a: Side, b: Side) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for key in ("status", "reason", "error"):
        found += changes(key, a.session[key], b.session[key])
    return found


def _durations(a: Side, b: Side) -> dict[str, Any]:
    """Seconds, for information; a kept step has those of its origin."""
    steps_a, steps_b = _by_name(a), _by_name(b)
    total = {"a": _seconds(a.session), "b": _seconds(b.session)}
    steps = [
        {"step": name, "a": _seconds(steps_a.get(name)), "b": _seconds(steps_b.get(name))}
        for name in _names(steps_a, steps_b)
    ]
    return {"total": total, "steps": [one for one in steps if (one["a"], one["b"]) != (None, None)]}


_MAKERS: dict[str, Callable[[Side, Side], Any]] = {
    "definition": _definition,
    "inputs": _inputs,
    "path": _path,
    "steps": _steps,
    "outputs": _outputs,
    "context": _context,
    "status": _status,
    "durations": _durations,
}
#: What can be compared, in the order in which it is told.
PARTS = tuple(_MAKERS)


# -- small things
def _name(step: Step) -> str:
    name: str = step["step"]
    return name if step["item"] is None else f"{name}[{step['item']}]"


def _by_name(side: Side) -> dict[str, Step]:
    return {_name(step): step for step in side.session["steps"]}


def _names(a: Mapping[str, Step], b: Mapping[str, Step]) -> Iterator[str]:
    """The names of both, those of the first in its order, then what only the second has."""
    yield from a
    yield from (name for name in b if name not in a)


def _moment(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _seconds(what: Mapping[str, Any] | None) -> float | None:
    began, ended = (None, None) if what is None else (_moment(what["started_at"]), _moment(what["finished_at"]))
    return None if began is None or ended is None else round(ended - began, 6)
