"""What changed between two JSON values, as a delta, and how to make that change again.

A delta is JSON itself: a list of changes in order, each of them one of

    ["set", path, value]   the value there is this one
    ["del", path]          the key is not there
    ["add", path, value]   a list: these follow at its end; a mapping: these keys are in it, too

`path` is a list of keys; `[]` is the value itself. Mappings are compared key by key at every depth, lists only at
their end: a list that changed otherwise is set as a whole. What is new and a list or a mapping is added, not set, so
that two who make it at the same time both count. A value that the codec has tagged (a date, a Decimal) is one value.

All of this is pure, and knows JSON as the codec writes it; see `persistence.codec` for values of Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

SET, DELETE, ADD = "set", "del", "add"

_TAG = frozenset({"__type__", "__value__"})  # as the codec writes what JSON does not know


def diff(old: Any, new: Any) -> list[list[Any]]:
    """The delta that makes `new` of `old`; empty if they are the same. The order of keys is no difference."""
    delta: list[list[Any]] = []
    _compare(old, new, (), delta)
    return delta


def apply(value: Any, delta: Iterable[Any]) -> Any:
    """The value with a delta's changes; the one that was given stays as it is.

    Never fails for what is not there, so it takes deltas of which earlier ones were left out: parents are made,
    what is no mapping gives way to one, and what is to go may be gone.
    """
    for what, path, *new in delta:
        value = _changed(value, path, what, new[0] if new else None)
    return value


def fold(deltas: Iterable[str], value: Any = None) -> Any:
    """What a sequence of stored deltas makes of a value; None = of an empty mapping."""
    value = {} if value is None else value
    for text in deltas:
        value = apply(value, json.loads(text))
    return value


def context_at(rows: Iterable[Mapping[Any, Any]], version: int | None = None) -> Any:
    """The context as it was at a version of its session; None = as it is after the last of its changes.

    Args:
        rows: its changes by version, oldest first, as `Store.context_changes` gives them.
        version: changes that are later do not count.
    """
    return fold(row["delta"] for row in rows if version is None or row["version"] <= version)


def written(delta: list[list[Any]]) -> str:
    """A delta as it is stored."""
    return json.dumps(delta, ensure_ascii=False, separators=(",", ":"))


def _compare(old: Any, new: Any, path: tuple[str, ...], delta: list[list[Any]]) -> None:
    if _is_mapping(old) and _is_mapping(new):
        delta += [[DELETE, [*path, key]] for key in old if key not in new]
        for key, value in new.items():
            if key in old:
                _compare(old[key], value, (*path, key), delta)
            else:
                what = ADD if _is_mapping(value) or isinstance(value, list) else SET
                delta.append([what, [*path, key], value])
    elif not _same(old, new):
        tail = _tail(old, new)
        delta.append([SET, list(path), new] if tail is None else [ADD, list(path), tail])


def _tail(old: Any, new: Any) -> list[Any] | None:
    """What was appended to a list; None if that is not all that has changed."""
    if isinstance(old, list) and isinstance(new, list) and len(old) < len(new) and _same(old, new[: len(old)]):
        return new[len(old) :]
    return None


def _is_mapping(value: Any) -> bool:
    """Whether it is looked into. One with a tag's keys and more is not: on its way to fewer it could pass for a tag."""
    return isinstance(value, dict) and not value.keys() >= _TAG


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: `1`, `1.0` and `true` are equal in Python."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _changed(value: Any, path: list[str], what: str, new: Any) -> Any:
    """Copies what lies on the path, and nothing else."""
    if not path:
        return _joined(value, new) if what == ADD else new
    inside = dict(value) if _is_mapping(value) else {}
    key, *rest = path
    if what == DELETE and (key not in inside or (rest and not _is_mapping(inside[key]))):
        return value
    if what == DELETE and not rest:
        del inside[key]
    else:
        inside[key] = _changed(inside[key], rest, what, new) if key in inside else _made(rest, new)
    return inside


def _made(path: list[str], new: Any) -> Any:
    for key in reversed(path):
        new = {key: new}
    return new


def _joined(value: Any, new: Any) -> Any:
    if isinstance(value, list) and isinstance(new, list):
        return value + new
    if not (_is_mapping(value) and _is_mapping(new)):
        return new
    return value | {key: _joined(value[key], part) if key in value else part for key, part in new.items()}
