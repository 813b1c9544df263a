"""`30s`, `5m`, `1h30m`, `2d`, `500ms` or a number of seconds."""

from __future__ import annotations

import math
import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = r"\d{1,15}(?:\.\d{1,15})?"
_PIECE = re.compile(rf"({_PART})(ms|s|m|h|d|w)", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART}(?:ms|s|m|h|d|w))+", re.ASCII)

LONGEST = 3660 * 86400.0  #: ten years: whatever is longer is a mistake, and dates would overflow


def seconds(value: object, *, zero: bool = False) -> float:
    """A duration as seconds.

    Args:
        value: text such as `30s`, or a number of seconds.
        zero: whether no time at all is a sensible answer.

    Raises:
        ValueError: it is no duration, is negative, is zero without `zero`, or is over ten years.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be a duration such as 30s, 5m, 1h or 2d")
    found = _from_text(value) if isinstance(value, str) else value
    if not (math.isfinite(found) if isinstance(found, float) else True) or found < 0:
        raise ValueError("must be a duration of 0 or more" if zero else "must be more than 0")
    if found == 0 and not zero:
        raise ValueError("must be more than 0")
    if found > LONGEST:
        raise ValueError("is longer than ten years")
    return float(found)


def _from_text(text: str) -> float:
    if not _WHOLE.fullmatch(text):
        raise ValueError("is not a duration; write it as 30s, 5m, 1h, 2d or 500ms")
    return math.fsum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(text))
