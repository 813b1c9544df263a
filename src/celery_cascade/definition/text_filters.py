"""Filters that give text or a number."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from jinja2.filters import do_title, do_urlencode

from celery_cascade.definition.filter_parts import as_filter, as_text, items_of, number_of, projected
from celery_cascade.definition.meter import charge_for, expect
from celery_cascade.words import shown

_DIRECTIVE = re.compile(r"%(?:%|[-+ #0]*(\d*)(?:\.(\d*))?[sdifFeEgGxXo])")


@as_filter
def do_upper(value: Any) -> str:
    return as_text(value).upper()


@as_filter
def do_lower(value: Any) -> str:
    return as_text(value).lower()


@as_filter
def do_capitalize(value: Any) -> str:
    return as_text(value).capitalize()


@as_filter
def do_trim(value: Any, chars: str | None = None) -> str:
    return as_text(value).strip(chars)


@as_filter
def do_string(value: Any) -> str:
    return as_text(value)


@as_filter
def do_replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = as_text(value), as_text(old), as_text(new)
    times = text.count(old) if count is None else min(text.count(old), max(count, 0))
    expect(len(text) + times * len(new))
    return text.replace(old, new, times)


@as_filter
def do_join(value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    separator = as_text(d)
    texts = [as_text(item) for item in projected(items_of(value), attribute)]
    expect(len(separator) * len(texts) + sum(map(len, texts)))
    return separator.join(texts)


@as_filter
def do_truncate(value: Any, length: int = 255, killwords: bool = False, end: str = "...", leeway: int = 5) -> str:
    text = as_text(value)
    if length < len(end) or leeway < 0:
        raise ValueError(f"truncate needs a length of {len(end)} or more, and no negative leeway")
    if len(text) <= length + leeway:
        return text
    cut = text[: length - len(end)]
    return (cut if killwords else cut.rsplit(" ", 1)[0]) + end


@as_filter
def do_format(value: Any, *args: Any) -> str:
    pattern = as_text(value)
    for width, precision in _DIRECTIVE.findall(pattern):
        if len(width) > 2 or len(precision) > 2:
            raise ValueError("format takes widths of up to 99")
    if "%" in _DIRECTIVE.sub("", pattern):
        raise ValueError("format knows %s, %d, %i, %f, %e, %g, %x, %o and %%, with positional values")
    for one in args:
        charge_for(one)
    expect(len(pattern) + 1000 * len(args))
    return pattern % args


@as_filter
def do_tojson(value: Any, indent: int | None = None) -> str:
    charge_for(value)
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= 8):
        raise ValueError("tojson takes an indent from 0 to 8")
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


@as_filter
def do_abs(value: Any) -> Any:
    return abs(number_of(value))


@as_filter
def do_round(value: Any, precision: int = 0, method: str = "common") -> float:
    if not isinstance(precision, int) or abs(precision) > 15:
        raise ValueError("round takes a precision from -15 to 15")
    if method == "common":
        return float(round(number_of(value), precision))
    if method not in ("ceil", "floor"):
        raise ValueError("round knows the methods common, ceil and floor")
    part = math.ceil if method == "ceil" else math.floor
    return float(part(number_of(value) * 10.0**precision) / 10.0**precision)


@as_filter
def do_int(value: Any, default: Any = None) -> Any:
    return _converted(int, value, default)


@as_filter
def do_float(value: Any, default: Any = None) -> Any:
    return _converted(float, value, default)


def _converted(kind: type[int] | type[float], value: Any, default: Any) -> Any:
    try:
        if isinstance(value, (str, int, float)) and math.isfinite(found := kind(value)):
            return found
    except (ValueError, OverflowError):
        pass
    if default is None:
        raise ValueError(f"{shown(value)} is not a number; give {kind.__name__} a default for that")
    return default


as_filter(do_title)
as_filter(do_urlencode)
