"""The filters that templates may use: Jinja2's names and meaning, lists instead of generators, sizes counted."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jinja2.tests
from jinja2 import Undefined
from jinja2.filters import do_title, do_urlencode

from celery_cascade.definition.meter import charge, charge_for, expect
from celery_cascade.definition.missing import Missing, look_up
from celery_cascade.definition.operators import operate
from celery_cascade.definition.words import shown, suggestion, type_name, words

Function = Callable[..., Any]

_TEST_NAMES = words(
    "defined undefined none string number integer float boolean mapping sequence iterable true false in odd even "
    "divisibleby lower upper eq equalto ne lt lessthan le gt greaterthan ge == != < <= > >="
)
_JINJA_TESTS: Mapping[str, Any] = jinja2.tests.TESTS
TESTS: dict[str, Function] = {name: _JINJA_TESTS[name] for name in _TEST_NAMES}
FILTERS: dict[str, Function] = {}
_UNSET: Any = object()
_DIRECTIVE = re.compile(r"%(?:%|[-+ #0]*(\d*)(?:\.(\d*))?[sdifFeEgGxXo])")


def counted(function: Function) -> Function:
    """Refuse undefined arguments, and count what the function gives."""

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        for one in (*args, *options.values()):
            if isinstance(one, Undefined):
                one._fail_with_undefined_error()
        result = function(*args, **options)
        if not isinstance(result, Undefined):
            charge_for(result)
        return result

    return run


def _filter(function: Function) -> Function:
    FILTERS[function.__name__.removeprefix("do_").rstrip("_")] = counted(function)
    return function


def as_text(value: Any) -> str:
    """A value within text, as Jinja2 writes it; what it holds is counted first."""
    if isinstance(value, str):
        return value
    charge_for(value)
    return str(value)


def items_of(value: Any) -> list[Any]:
    """The items of a list, the keys of a mapping, the characters of text."""
    if isinstance(value, (list, tuple, str, Mapping)):
        charge(len(value))
        return list(value)
    raise TypeError(f"this takes a list, not {type_name(value)}")


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    if isinstance(value, Undefined) or (boolean and not value):
        return default_value
    return value


FILTERS["default"] = FILTERS["d"] = _default


@_filter
def do_length(value: Any) -> int:
    if not isinstance(value, (list, tuple, str, Mapping)):
        raise TypeError(f"a {type_name(value)} has no length")
    return len(value)


@_filter
def do_upper(value: Any) -> str:
    return as_text(value).upper()


@_filter
def do_lower(value: Any) -> str:
    return as_text(value).lower()


@_filter
def do_capitalize(value: Any) -> str:
    return as_text(value).capitalize()


@_filter
def do_trim(value: Any, chars: str | None = None) -> str:
    return as_text(value).strip(chars)


@_filter
def do_string(value: Any) -> str:
    return as_text(value)


@_filter
def do_replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = as_text(value), as_text(old), as_text(new)
    times = text.count(old) if count is None else min(text.count(old), max(count, 0))
    expect(len(text) + times * len(new))
    return text.replace(old, new, times)


@_filter
def do_join(value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    separator = as_text(d)
    texts = [as_text(item) for item in _projected(items_of(value), attribute)]
    expect(len(separator) * len(texts) + sum(map(len, texts)))
    return separator.join(texts)


@_filter
def do_truncate(value: Any, length: int = 255, killwords: bool = False, end: str = "...", leeway: int = 5) -> str:
    text = as_text(value)
    if length < len(end) or leeway < 0:
        raise ValueError(f"truncate needs a length of {len(end)} or more, and no negative leeway")
    if len(text) <= length + leeway:
        return text
    cut = text[: length - len(end)]
    return (cut if killwords else cut.rsplit(" ", 1)[0]) + end


@_filter
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


@_filter
def do_first(value: Any) -> Any:
    return look_up(value, 0) if isinstance(value, (list, tuple, str)) and value else _none_in(value)


@_filter
def do_last(value: Any) -> Any:
    return look_up(value, -1) if isinstance(value, (list, tuple, str)) and value else _none_in(value)


@_filter
def do_list(value: Any) -> list[Any]:
    return items_of(value)


@_filter
def do_reverse(value: Any) -> Any:
    return value[::-1] if isinstance(value, str) else items_of(value)[::-1]


@_filter
def do_sort(value: Any, reverse: bool = False, case_sensitive: bool = False, attribute: Any = None) -> list[Any]:
    return sorted(items_of(value), key=_key(attribute, case_sensitive), reverse=bool(reverse))


@_filter
def do_unique(value: Any, case_sensitive: bool = False, attribute: Any = None) -> list[Any]:
    key = _key(attribute, case_sensitive)
    found: dict[str, Any] = {}
    for item in items_of(value):
        found.setdefault(json.dumps(key(item), sort_keys=True, default=repr), item)
    return list(found.values())


@_filter
def do_min(value: Any, case_sensitive: bool = False, attribute: Any = None) -> Any:
    items = items_of(value)
    return min(items, key=_key(attribute, case_sensitive)) if items else _none_in(value)


@_filter
def do_max(value: Any, case_sensitive: bool = False, attribute: Any = None) -> Any:
    items = items_of(value)
    return max(items, key=_key(attribute, case_sensitive)) if items else _none_in(value)


@_filter
def do_sum(value: Any, attribute: Any = None, start: Any = 0) -> Any:
    return functools.reduce(
        lambda total, item: operate("+", total, item), _projected(items_of(value), attribute), start
    )


@_filter
def do_abs(value: Any) -> Any:
    return abs(_number(value))


@_filter
def do_round(value: Any, precision: int = 0, method: str = "common") -> float:
    if not isinstance(precision, int) or abs(precision) > 15:
        raise ValueError("round takes a precision from -15 to 15")
    if method == "common":
        return float(round(_number(value), precision))
    if method not in ("ceil", "floor"):
        raise ValueError("round knows the methods common, ceil and floor")
    part = math.ceil if method == "ceil" else math.floor
    return float(part(_number(value) * 10.0**precision) / 10.0**precision)


@_filter
def do_int(value: Any, default: Any = None) -> Any:
    return _converted(int, value, default)


@_filter
def do_float(value: Any, default: Any = None) -> Any:
    return _converted(float, value, default)


@_filter
def do_tojson(value: Any, indent: int | None = None) -> str:
    charge_for(value)
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= 8):
        raise ValueError("tojson takes an indent from 0 to 8")
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


@_filter
def do_items(value: Any) -> list[Any]:
    return [[key, item] for key, item in _mapping(value).items()]


@_filter
def do_dictsort(value: Any, case_sensitive: bool = False, by: str = "key", reverse: bool = False) -> list[Any]:
    if by not in ("key", "value"):
        raise ValueError("dictsort sorts by key or by value")
    key = _key(0 if by == "key" else 1, case_sensitive)
    return sorted(([name, item] for name, item in _mapping(value).items()), key=key, reverse=bool(reverse))


@_filter
def do_map(
    value: Any, name: str | None = None, *args: Any, attribute: Any = None, default: Any = _UNSET, **options: Any
) -> list[Any]:
    items = items_of(value)
    if attribute is not None:
        found = _projected(items, attribute)
        return found if default is _UNSET else [_default(item, default) for item in found]
    function = _known("filter", name, FILTERS)
    return [function(item, *args, **options) for item in items]


@_filter
def do_select(value: Any, test: str | None = None, *args: Any) -> list[Any]:
    return _selected(value, None, test, args, wanted=True)


@_filter
def do_reject(value: Any, test: str | None = None, *args: Any) -> list[Any]:
    return _selected(value, None, test, args, wanted=False)


@_filter
def do_selectattr(value: Any, attribute: Any, test: str | None = None, *args: Any) -> list[Any]:
    return _selected(value, attribute, test, args, wanted=True)


@_filter
def do_rejectattr(value: Any, attribute: Any, test: str | None = None, *args: Any) -> list[Any]:
    return _selected(value, attribute, test, args, wanted=False)


_filter(do_title)
_filter(do_urlencode)
FILTERS["count"] = FILTERS["length"]


def _selected(value: Any, attribute: Any, test: str | None, args: tuple[Any, ...], *, wanted: bool) -> list[Any]:
    items = items_of(value)
    looked_at = _projected(items, attribute)
    if test is None:
        return [item for item, seen in zip(items, looked_at, strict=True) if bool(seen) is wanted]
    function = _known("test", test, TESTS)
    if test == "in" and args and isinstance(args[0], (list, str)):
        charge(len(args[0]) * len(items))  # each is searched for
    return [item for item, seen in zip(items, looked_at, strict=True) if bool(function(seen, *args)) is wanted]


def _known(what: str, name: Any, functions: Mapping[str, Function]) -> Function:
    if not isinstance(name, str) or name not in functions or name.startswith("_"):
        hint = suggestion(name, functions) if isinstance(name, str) else ""
        raise TypeError(f"{shown(name)} is no {what}{hint}")
    return functions[name]


def _projected(items: list[Any], attribute: Any) -> list[Any]:
    """The items, or what each has at a dotted path such as `owner.name`."""
    if attribute is None:
        return items
    path = attribute.split(".") if isinstance(attribute, str) else [attribute]
    return [_follow(item, path) for item in items]


def _follow(item: Any, path: list[Any]) -> Any:
    for part in path:
        item = look_up(item, int(part) if isinstance(item, list) and str(part).isdecimal() else part)
    return item


def _key(attribute: Any, case_sensitive: bool) -> Callable[[Any], Any]:
    def key(item: Any) -> Any:
        seen = _projected([item], attribute)[0]
        return seen.lower() if isinstance(seen, str) and not case_sensitive else seen

    return key


def _none_in(value: Any) -> Missing:
    if not isinstance(value, (list, tuple, str, Mapping)):
        raise TypeError(f"this takes a list, not {type_name(value)}")
    return Missing(hint=f"the {type_name(value)} is empty")


def _number(value: Any) -> Any:
    if not isinstance(value, (int, float)):
        raise TypeError(f"this takes a number, not {type_name(value)}")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"this takes a mapping, not {type_name(value)}")
    return value


def _converted(kind: type[int] | type[float], value: Any, default: Any) -> Any:
    try:
        if isinstance(value, (str, int, float)) and math.isfinite(found := kind(value)):
            return found
    except (ValueError, OverflowError):
        pass
    if default is None:
        raise ValueError(f"{shown(value)} is not a number; give {kind.__name__} a default for that")
    return default


def concatenate(values: Iterable[Any]) -> str:
    """What `~` makes."""
    texts = [as_text(value) for value in values]
    charge(sum(map(len, texts)))
    return "".join(texts)
