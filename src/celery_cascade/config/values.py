"""A setting's value in its own type, or an error that says what it must be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_never

from celery_cascade.config.about import About, settings_of
from celery_cascade.errors import ConfigError
from celery_cascade.words import suggestion

MOST_SECONDS = 10 * 365 * 86400.0  #: ten years: whatever is longer is a mistake, and dates would overflow
MOST_COUNT = 10**15


def read_value(key: str, about: About, value: Any) -> Any:
    """A setting's value in its own type. Raises ConfigError with what it must be."""
    match about.kind:
        case "flag":
            return _flag(key, value)
        case "seconds":
            return _number(key, value.total_seconds() if isinstance(value, timedelta) else value, MOST_SECONDS)
        case "count" | "bytes":
            return _whole(key, value, about.least)
        case "patterns":
            return _patterns(key, value)
        case "age":
            return _age(key, value)
        case "retention":
            return _retention(key, about.part, value)
        case "text":
            return _text(key, value)
        case _:
            assert_never(about.kind)


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} is {value!r}; it must be True or False")
    return value


def _text(key: str, value: Any) -> str:
    if not isinstance(value, (str, Path)):
        raise ConfigError(f"{key} is {value!r}; it must be text")
    return str(value)


def _number(key: str, value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{key} is {value!r}; it must be a number{_unquoted(value)}")
    if not 0 < value <= most:
        raise ConfigError(f"{key} is {value!r}; it must be more than 0" + ("" if value <= 0 else f", at most {most:g}"))
    return float(value)


def _whole(key: str, value: Any, least: int) -> int:
    wanted = f"a whole number, {least} or more"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{key} is {value!r}; it must be {wanted}{_unquoted(value)}")
    if value != int(value) or not least <= value <= MOST_COUNT:
        raise ConfigError(f"{key} is {value!r}; it must be {wanted}" + (", but less" if value > MOST_COUNT else ""))
    return int(value)


def _unquoted(value: Any) -> str:
    """For what came as text, out of the environment, say."""
    try:
        return f"; write {float(value):g} without quotes, or convert it" if isinstance(value, str) else ""
    except ValueError:
        return ""


def _patterns(key: str, value: Any) -> tuple[str, ...]:
    items = (value,) if isinstance(value, (str, Path)) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, (str, Path)) for item in items):
        raise ConfigError(f"{key} is {value!r}; it must be a list of glob patterns")
    return tuple(str(item) for item in items)


def _age(key: str, value: Any) -> timedelta | None:
    if value is None or isinstance(value, timedelta):
        found = value
    elif isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{key} is {value!r}; it must be a timedelta, a number of days, or None for ever")
    else:
        found = timedelta(days=max(-1.0, min(float(value), 1e6)))
    if found is not None and not timedelta() <= found <= timedelta(days=36500):
        raise ConfigError(f"{key} is {value!r}; it must be from 0 to 100 years (a timedelta), or None for ever")
    return found


def _retention(key: str, part: Any, value: Any) -> Any:
    """`None`, a Retention, or a mapping of its fields."""
    if value is None or isinstance(value, part):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} is {value!r}; it must be None, a Retention or a mapping of its fields")
    known = settings_of(part)
    for name in value:
        if name not in known:
            hint = suggestion(str(name), known, else_list="it knows")
            raise ConfigError(f"unknown key {name!r} in {key}{hint}")
    return part(**value)
