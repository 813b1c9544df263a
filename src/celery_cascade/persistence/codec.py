"""Values to JSON text and back: kombu's JSON with its registered types, nothing lost on the way.

What kombu tags as `{"__type__": …, "__value__": …}` (datetime, date, time, Decimal, UUID, bytes and whatever an
application registered) comes back as what it was. A user's own mapping with just these two keys is escaped, or it
could never be read again. Tuples come back as lists, as they do from Celery itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from kombu.utils.json import JSONEncoder, object_hook

from celery_cascade.errors import NotSerializable, PayloadTooLarge, StoreError

MAX_DEPTH = 200  #: levels of nesting; the reader's recursion is bounded, and its stack is deeper than the writer's

_TAG = frozenset({"__type__", "__value__"})
_ESCAPED = "cascade:mapping"  # `__type__` of a user's mapping that looks like one of kombu's
_LEAVES = frozenset({str, int, float, bool, type(None)})
_STRINGS = frozenset({str})
_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_from_kombu: Callable[[dict[str, Any]], Any] = object_hook
_to_kombu: Callable[[Any], Any] = JSONEncoder().default


def encode(value: Any, *, what: str) -> str:
    """The JSON text of a value.

    Args:
        value: plain data, and what kombu knows.
        what: how messages call the value: "inputs", "output of step charge".

    Raises:
        NotSerializable: something in it is not JSON or would come back as something else; names the path to it.
    """
    return _encode(value, what)[0]


def encode_limited(value: Any, *, what: str, limit: int) -> str:
    """As `encode`, but at most `limit` bytes of UTF-8.

    Raises:
        PayloadTooLarge: it is larger; nothing is cut.
    """
    text, size = _encode(value, what)
    if size > limit:
        raise PayloadTooLarge(
            f"{what} is {size:,} bytes as JSON; the limit is {limit:,}",
            hint="Keep large data elsewhere and pass a reference to it, or raise cascade_max_payload_bytes\n"
            "See the limits with: cascade doctor --settings",
        )
    return text


def decode(text: str) -> Any:
    """The value of a text that `encode` wrote.

    Raises:
        StoreError: it is not such a text; somebody else wrote it, or a type that was registered then is not now.
    """
    try:
        if '"__type__"' in text:
            return json.loads(text, object_hook=_untag)
        return json.loads(text)
    except Exception as error:  # a registered type's decoder may raise anything
        raise StoreError(f"a stored value cannot be read: {error}", hint="Look at it with: cascade doctor") from error


def to_plain(value: Any, *, what: str) -> Any:
    """A value as what JSON knows, kombu's tags and our escapes included. Same errors as `encode`."""
    return _plain(value, what, ())


def from_plain(value: Any) -> Any:
    """Undo `to_plain`."""
    if isinstance(value, dict):
        return _untag({key: from_plain(part) for key, part in value.items()})
    if isinstance(value, list):
        return [from_plain(part) for part in value]
    return value


def _encode(value: Any, what: str) -> tuple[str, int]:
    try:
        text = _dumps(value)
    except (TypeError, ValueError, RecursionError):
        plain = False  # not JSON as it stands; the slow way finds out where, and tags what can be tagged
    else:
        plain = _is_plain(value)
    if not plain:
        text = _dumps(_plain(value, what, ()))
    if text.isascii():
        return text, len(text)
    try:
        return text, len(text.encode())
    except UnicodeEncodeError:
        _plain(value, what, ())
        raise  # not reached: the walk meets the same lone surrogate


def _is_plain(value: Any) -> bool:
    """Whether `json` writes it without loss. Looks at containers only: numbers and strings cost next to nothing."""
    level = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                if not _STRINGS.issuperset(map(type, part)) or part.keys() == _TAG:
                    return False
                part = part.values()
            elif not isinstance(part, (list, tuple)):
                continue
            if not _LEAVES.issuperset(map(type, part)):
                deeper += [inner for inner in part if type(inner) not in _LEAVES]
        if not deeper:
            return True
        level = deeper
    return False


def _plain(value: Any, what: str, path: tuple[str | int, ...]) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _check_text(value, what, path)
    if isinstance(value, (int, float)):
        return _check_number(value, what, path)
    if len(path) >= MAX_DEPTH:
        _refuse(what, path[:3], f"nested deeper than {MAX_DEPTH} levels, or a value that contains itself")
    if isinstance(value, dict):
        return _plain_mapping(value, what, path)
    if isinstance(value, (list, tuple)):
        return [_plain(part, what, (*path, index)) for index, part in enumerate(value)]
    try:
        tagged = _to_kombu(value)
    except TypeError:
        _refuse(what, path, f"{type(value).__name__} is not JSON")
    if isinstance(tagged, dict) and tagged.keys() == _TAG:
        return {"__type__": tagged["__type__"], "__value__": _plain(tagged["__value__"], what, path)}
    return _plain(tagged, what, (*path, "__json__"))


def _plain_mapping(value: Mapping[Any, Any], what: str, path: tuple[str | int, ...]) -> dict[str, Any]:
    result = {}
    for key, part in value.items():
        if not isinstance(key, str):
            _refuse(what, path, f"key {key!r} is {type(key).__name__}; JSON has string keys only")
        result[_check_text(key, what, path)] = _plain(part, what, (*path, key))
    if result.keys() == _TAG:
        return {"__type__": _ESCAPED, "__value__": [list(pair) for pair in result.items()]}
    return result


def _check_text(value: str, what: str, path: tuple[str | int, ...]) -> str:
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        _refuse(what, path, "text with a lone surrogate (half of a character) cannot be stored")
    return value


def _check_number(value: float, what: str, path: tuple[str | int, ...]) -> float:
    if isinstance(value, float):
        if not math.isfinite(value):
            _refuse(what, path, f"{float(value)!r} is not JSON")
        return value
    try:
        int.__repr__(value)
    except ValueError:
        _refuse(what, path, "the integer has more digits than Python reads back")
    return value


def _untag(value: dict[str, Any]) -> Any:
    if value.get("__type__") == _ESCAPED and value.keys() == _TAG:
        return dict(value["__value__"])
    return _from_kombu(value)


def _refuse(what: str, path: tuple[str | int, ...], problem: str) -> NoReturn:
    raise NotSerializable(
        f"{what}{_written(path)}: {problem}",
        hint="Use text, numbers, true, false, null, lists and mappings; dates, times, Decimal, UUID and bytes are kept",
    ) from None


def _written(path: tuple[str | int, ...]) -> str:
    """`.items[3].when`; a key that is no word is quoted."""
    parts = []
    for part in path:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        else:
            parts.append(f".{part}" if part.isidentifier() else f"[{part!r}]")
    return "".join(parts)
