"""Secrets in data: hidden, or collected to be looked for elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from celery_cascade.redaction.keys import Keys
from celery_cascade.redaction.text import HIDDEN, without_logins

#: What has nothing in it to look for; and how a text begins that may.
_PLAIN, _JSON = frozenset({int, float, bool, type(None)}), frozenset("{[")
#: What a secret has at least, to be looked for in other text: `no` and `1234` stand in too many places.
SHORTEST_TEXT, SHORTEST_NUMBER = 4, 6


def redacted(value: Any, keys: Keys) -> Any:
    """A value without what is secret in it, however deep; JSON in texts, and `{"name": …, "value": …}`, included."""
    if not keys:
        return value
    if isinstance(value, Mapping):
        named = _names_a_secret(value, keys)
        return {
            key: _hidden(part) if keys.match(key) or (named and key == "value") else redacted(part, keys)
            for key, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        if _is_secret_pair(value, keys):
            return [value[0], _hidden(value[1])]
        return [redacted(part, keys) for part in value]
    return _redacted_text(value, keys) if isinstance(value, str) else value


def secrets_in(value: Any, keys: Keys) -> set[str]:
    """The texts that stand under secret keys, and numbers of some length: what must not be seen elsewhere either."""
    found: set[str] = set()
    if keys:
        for part in _secret_parts(value, keys):
            found.update(_texts(part))
    return found


def secrets_in_text(text: str, keys: Keys) -> set[str]:
    """Those of a JSON text, as it is stored; of a damaged one none: what shows it says so."""
    if not keys.may_be_in(text):
        return set()
    try:
        return secrets_in(json.loads(text), keys)
    except (ValueError, RecursionError):
        return set()


def _hidden(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) or value in ("", [], {}) else HIDDEN


def _names_a_secret(value: Mapping[Any, Any], keys: Keys) -> bool:
    return "value" in value and any(keys.match(value.get(word)) for word in ("name", "key", "header"))


def _is_secret_pair(value: Sequence[Any], keys: Keys) -> bool:
    return len(value) == 2 and keys.match(value[0]) and isinstance(value[1], str)


def _redacted_text(text: str, keys: Keys) -> str:
    inner = _json_in(text)
    if inner is not None:
        hidden = redacted(inner, keys)
        if hidden != inner:
            return json.dumps(hidden, ensure_ascii=False)
    return without_logins(text)


def _json_in(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _secret_parts(value: Any, keys: Keys) -> list[Any]:
    """What stands under secret keys, however deep. In one loop: inputs may be a megabyte of small values."""
    found: list[Any] = []
    left = [value]
    seen: dict[int, Any] = {}  # a task may have made a circle of what it was given; kept, or its id is another's soon
    shapes: dict[tuple[Any, ...], bool] = {}
    while left:
        part = left.pop()
        if isinstance(part, str):
            left.append(_json_in(part))
        elif isinstance(part, (dict, Mapping, list, tuple)) and id(part) not in seen:
            seen[id(part)] = part
            if isinstance(part, (list, tuple)):
                inside: Iterable[Any] = _of_sequence(part, keys, found)
            else:
                shape = tuple(part)  # rows are alike
                if shape not in shapes:
                    shapes[shape] = "value" in shape or any(map(keys.match, shape))
                inside = _of_mapping(part, keys, found) if shapes[shape] else part.values()
            left += [one for one in inside if type(one) not in _PLAIN and (type(one) is not str or one[:1] in _JSON)]
    return found


def _of_sequence(value: Sequence[Any], keys: Keys, found: list[Any]) -> Sequence[Any]:
    """What is left to look into; what is secret is found."""
    if not _is_secret_pair(value, keys):
        return value
    found.append(value[1])
    return ()


def _of_mapping(value: Mapping[Any, Any], keys: Keys, found: list[Any]) -> list[Any]:
    """Likewise."""
    named = _names_a_secret(value, keys)
    rest: list[Any] = []
    for key, part in value.items():
        secret = keys.match(key) or (named and key == "value")
        (found if secret else rest).append(part)
    return rest


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) >= SHORTEST_TEXT and value != HIDDEN:
            yield value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if len(str(value)) >= SHORTEST_NUMBER:
            yield str(value)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)
