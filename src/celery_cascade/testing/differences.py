"""Where two JSON values differ first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from celery_cascade.words import shown

_NOTHING = object()


def difference(before: Any, after: Any, where: str, ignore: Iterable[str] = ()) -> str | None:
    """The first difference in words, `output.total: 12 became 24`; None if there is none.

    Args:
        before, after: JSON values.
        where: what to call the whole.
        ignore: paths whose values do not count: `output.token`, `effects.*.at`.
    """
    return _first(before, after, (where,), [tuple(path.split(".")) for path in ignore])


def _first(before: Any, after: Any, path: tuple[str, ...], ignore: Sequence[tuple[str, ...]]) -> str | None:
    if any(len(one) == len(path) and all(map(fnmatchcase, path, one)) for one in ignore):
        return None
    if isinstance(before, dict) and isinstance(after, dict):
        keys: Iterable[Any] = [*before, *(key for key in after if key not in before)]
        pairs = [(key, before.get(key, _NOTHING), after.get(key, _NOTHING)) for key in keys]
    elif isinstance(before, list) and isinstance(after, list):
        longest = range(max(len(before), len(after)))
        pairs = [(number, _at(before, number), _at(after, number)) for number in longest]
    elif type(before) is type(after) and before == after:
        return None
    else:
        return f"{'.'.join(path)}: {_words(before, after)}"
    found = (_first(one, other, (*path, str(key)), ignore) for key, one, other in pairs)
    return next((words for words in found if words), None)


def _at(values: list[Any], number: int) -> Any:
    return values[number] if number < len(values) else _NOTHING


def _words(before: Any, after: Any) -> str:
    if before is _NOTHING:
        return f"{shown(after)} came on top"
    return f"{shown(before)} is missing" if after is _NOTHING else f"{shown(before)} became {shown(after)}"
