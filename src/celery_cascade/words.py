"""Words for messages: the nearest right one, and values shown short."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 60


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `word` was probably meant to be, else None. Letter case does not count."""
    lowered = {right.lower(): right for right in known}
    wrong = word[:_LONGEST].lower()
    found = difflib.get_close_matches(wrong, lowered, n=1, cutoff=0.6)
    if not found and len(wrong) > 1:
        found = [right for right in lowered if right.startswith(wrong)]  # `expo`
    return lowered[found[0]] if len(found) == 1 else None


def suggestion(word: str, known: Iterable[str], *, else_list: str = "") -> str:
    """`; did you mean 'x'?`, or `; <else_list> a, b, c` when nothing is near and there are only a few."""
    right = sorted(set(known))
    match = nearest(word, right)
    if match is not None:
        return f"; did you mean {match!r}?"
    if else_list and right:
        return f"; {else_list} {listed(right)}"
    return ""


def listed(words: Iterable[str], most: int = 12) -> str:
    """`a, b, c`, with a count instead of what goes beyond `most`."""
    every = list(words)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(shown(word, quote=False) for word in every[:most]) + more


def shown(value: object, *, quote: bool = True) -> str:
    """A value in a message: one line, printable, at most 60 characters."""
    if isinstance(value, str):
        text = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
        plain = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
        return f"'{plain}'" if quote else plain
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more than 4,300 digits; something that holds itself
        return type_name(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def type_name(value: object) -> str:
    """The type of a value in the words of JSON; other types by their own name."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list() | tuple():
            return "list"
        case dict():
            return "mapping"
        case _:
            return type(value).__name__


def words(text: str) -> tuple[str, ...]:
    """The words of a long list, readable in the source."""
    return tuple(text.split())
