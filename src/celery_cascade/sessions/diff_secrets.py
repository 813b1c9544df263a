"""The differences of two sessions without their secrets (pure): that one differs is told, not what it is (R145)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery_cascade.redaction.text import HIDDEN


def without_secrets(true: Mapping[str, Any], shown: Mapping[str, Any], hide: Callable[[str], str]) -> dict[str, Any]:
    """What is so, with the values as they may be shown.

    Args:
        true: the differences of the sessions as they are.
        shown: those of the same sessions without their secrets, where two secrets are the same.
        hide: takes secrets out of words.
    """
    found: dict[str, Any] = {**true, "a": shown["a"], "b": shown["b"]}
    for name, part in true.items():
        if isinstance(part, list) and name in shown and name != "differs":
            found[name] = list(_changes(part, shown[name], hide))
        elif isinstance(part, dict) and "changes" in part:
            found[name] = {**part, "changes": list(_changes(part["changes"], shown[name]["changes"], hide))}
    definition = found.get("definition")
    if definition and definition["diff"]:
        definition["diff"] = hide(definition["diff"])
    return found


def _changes(
    true: list[dict[str, Any]], shown: list[dict[str, Any]], hide: Callable[[str], str]
) -> Iterator[dict[str, Any]]:
    as_shown = {change["path"]: change for change in shown}
    for change in true:
        known = as_shown.get(change["path"])
        if known is not None and known.keys() == change.keys():
            yield known
        else:
            yield {key: hide(value) if key == "path" else HIDDEN for key, value in change.items()}
