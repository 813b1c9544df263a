"""Secrets in data: hidden, or collected to be looked for elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celery_cascade.redaction.keys import Keys
from celery_cascade.redaction.text import HIDDEN, without_logins

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


def _secret_parts(value: Any, keys: Keys) -> Iterator[Any]:
    if isinstance(value, Mapping):
        named = _names_a_secret(value, keys)
        for key, part in value.items():
            if keys.match(key) or (named and key == "value"):
                yield part
            else:
                yield from _secret_parts(part, keys)
    elif isinstance(value, (list, tuple)):
        if _is_secret_pair(value, keys):
            yield value[1]
        else:
            for part in value:
                yield from _secret_parts(part, keys)
    elif isinstance(value, str) and (inner := _json_in(value)) is not None:
        yield from _secret_parts(inner, keys)


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
