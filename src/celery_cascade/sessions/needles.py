"""What is looked for in the inputs of sessions, as the texts that the stored JSON has in it (R29)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from celery_cascade.errors import UsageError
from celery_cascade.persistence import codec
from celery_cascade.sessions.ids import check_text
from celery_cascade.words import shown

_PAIR = re.compile(r"([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_LONGEST = 10_000


def needles(given: str | Mapping[str, Any]) -> list[list[str]]:
    """Groups of texts; the inputs must have one of each group in them.

    Args:
        given: a text, found wherever it stands in the inputs; `key=value`, which finds an input by its value too,
            `7` as number and as text; or a mapping of inputs with just these values.

    Raises:
        UsageError: it is neither, or it is empty.
    """
    if isinstance(given, Mapping):
        return [_exactly(key, value) for key, value in given.items()]
    if not isinstance(given, str):
        raise UsageError(f"inputs is {shown(given)}; it must be a text to look for, or a mapping of inputs")
    check_text(given, "inputs", _LONGEST)
    found = [given, _within(given)]
    if pair := _PAIR.fullmatch(given):
        key, text = pair.groups()
        for value in (text, *_as_json(text)):
            found += _exactly(key, value)
    return [list(dict.fromkeys(found))]


def _exactly(key: Any, value: Any) -> list[str]:
    """An input as the codec writes it, up to what follows it: 7 is not the beginning of 70."""
    if not isinstance(key, str):
        raise UsageError(f"inputs: {shown(key)} is no input's name; it must be text")
    pair = codec.encode({key: value}, what="inputs")[1:-1]
    return [pair] if pair.endswith('"') else [f"{pair},", f"{pair}}}"]


def _within(text: str) -> str:
    """A text as it stands inside a JSON string."""
    return codec.encode(text, what="inputs")[1:-1]


def _as_json(text: str) -> list[Any]:
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError):
        return []
