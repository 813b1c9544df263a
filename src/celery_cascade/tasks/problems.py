"""Errors as stored text: what it was, in JSON that any SQL client reads."""

from __future__ import annotations

import json
import traceback
from contextlib import suppress
from typing import Any

from celery_cascade.tasks.attempt import NO_ITEM, StepRef
from celery_cascade.tasks.guard_words import drop_note

#: Characters of a message or traceback that are kept; a longer one loses its middle.
LONGEST_MESSAGE, LONGEST_TRACEBACK = 4_000, 20_000


def error_text(error: BaseException, ref: StepRef | None = None) -> str:
    """{"type", "message", "step", "item", "attempt"} of an error."""
    return problem_text(type_of(type(error)), _message(error), ref)


def type_of(kind: type[BaseException]) -> str:
    """What a stored error's "type" says."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def problem_text(kind: str, message: str, ref: StepRef | None = None) -> str:
    """The same for something that is no exception of ours, such as a killed process."""
    found: dict[str, Any] = {"type": kind, "message": _cut(message, LONGEST_MESSAGE)}
    if ref is not None:
        item = None if ref.item == NO_ITEM else ref.item
        found |= {"step": ref.step, "item": item, "attempt": ref.attempt}
    return json.dumps(found)


def told(text: str | None) -> dict[str, Any] | None:
    """A stored error as data, for handlers of our signals; None if there is none, or it is not ours."""
    try:
        found = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return {"type": "unknown", "message": str(text)}
    return found if isinstance(found, dict) else None


def traceback_text(error: BaseException, note: str = "") -> str:
    """The traceback, bounded; `note` is its last line, whatever kind of exception it is."""
    with suppress(Exception):  # a user's exception may forbid whatever it likes
        drop_note(error)
    text = _cut("".join(traceback.format_exception(error)), LONGEST_TRACEBACK)
    return _clean(f"{text.rstrip()}\n{note}" if note else text)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  (a user's __str__ may raise anything)
        return f"(its message cannot be shown: {type(broken).__name__})"


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n… {len(text) - longest} characters left out …\n{text[-half:]}"


def _clean(text: str) -> str:
    """What every database takes as text: no NUL, no lone surrogate."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
