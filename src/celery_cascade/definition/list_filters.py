"""Filters over lists and mappings, and the tests that `select` and `is` use. They give lists, not generators."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import jinja2.tests

from celery_cascade.definition.filter_parts import (
    FILTERS,
    Function,
    as_filter,
    items_of,
    known_in,
    mapping_of,
    nothing_in,
    projected,
    sort_key,
)
from celery_cascade.definition.filter_parts import default as given
from celery_cascade.definition.meter import charge
from celery_cascade.definition.missing import look_up
from celery_cascade.definition.operators import operate
from celery_cascade.words import type_name, words

_TEST_NAMES = words(
    "defined undefined none string number integer float boolean mapping sequence iterable true false in odd even "
    "divisibleby lower upper eq equalto ne lt lessthan le gt greaterthan ge == != < <= > >="
)
_JINJA_TESTS: Mapping[str, Any] = jinja2.tests.TESTS
TESTS: dict[str, Function] = {name: _JINJA_TESTS[name] for name in _TEST_NAMES}
_UNSET: Any = object()


@as_filter
def do_length(value: Any) -> int:
    if not isinstance(value, (list, tuple, str, Mapping)):
        raise TypeError(f"a {type_name(value)} has no length")
    return len(value)


@as_filter
def do_first(value: Any) -> Any:
    return look_up(value, 0) if isinstance(value, (list, tuple, str)) and value else nothing_in(value)


@as_filter
def do_last(value: Any) -> Any:
    return look_up(value, -1) if isinstance(value, (list, tuple, str)) and value else nothing_in(value)


@as_filter
def do_list(value: Any) -> list[Any]:
    return items_of(value)


@as_filter
def do_reverse(value: Any) -> Any:
    return value[::-1] if isinstance(value, str) else items_of(value)[::-1]


@as_filter
def do_sort(value: Any, reverse: bool = False, case_sensitive: bool = False, attribute: Any = None) -> list[Any]:
    return sorted(items_of(value), key=sort_key(attribute, case_sensitive), reverse=bool(reverse))


@as_filter
def do_unique(value: Any, case_sensitive: bool = False, attribute: Any = None) -> list[Any]:
    key = sort_key(attribute, case_sensitive)
    found: dict[str, Any] = {}
    for item in items_of(value):
        found.setdefault(json.dumps(key(item), sort_keys=True, default=repr), item)
    return list(found.values())


@as_filter
def do_min(value: Any, case_sensitive: bool = False, attribute: Any = None) -> Any:
    items = items_of(value)
    return min(items, key=sort_key(attribute, case_sensitive)) if items else nothing_in(value)


@as_filter
def do_max(value: Any, case_sensitive: bool = False, attribute: Any = None) -> Any:
    items = items_of(value)
    return max(items, key=sort_key(attribute, case_sensitive)) if items else nothing_in(value)


@as_filter
def do_sum(value: Any, attribute: Any = None, start: Any = 0) -> Any:
    return functools.reduce(lambda total, item: operate("+", total, item), projected(items_of(value), attribute), start)


@as_filter
def do_items(value: Any) -> list[Any]:
    return [[key, item] for key, item in mapping_of(value).items()]


@as_filter
def do_dictsort(value: Any, case_sensitive: bool = False, by: str = "key", reverse: bool = False) -> list[Any]:
    if by not in ("key", "value"):
        raise ValueError("dictsort sorts by key or by value")
    key = sort_key(0 if by == "key" else 1, case_sensitive)
    return sorted(([name, item] for name, item in mapping_of(value).items()), key=key, reverse=bool(reverse))


@as_filter
def do_map(
    value: Any, name: str | None = None, *args: Any, attribute: Any = None, default: Any = _UNSET, **options: Any
) -> list[Any]:
    items = items_of(value)
    if attribute is not None:
        found = projected(items, attribute)
        return found if default is _UNSET else [given(item, default) for item in found]
    function = known_in("filter", name, FILTERS)
    return [function(item, *args, **options) for item in items]


@as_filter
def do_select(value: Any, test: str | None = None, *args: Any) -> list[Any]:
    return _selected(value, None, test, args, wanted=True)


@as_filter
def do_reject(value: Any, test: str | None = None, *args: Any) -> list[Any]:
    return _selected(value, None, test, args, wanted=False)


@as_filter
def do_selectattr(value: Any, attribute: Any, test: str | None = None, *args: Any) -> list[Any]:
    return _selected(value, attribute, test, args, wanted=True)


@as_filter
def do_rejectattr(value: Any, attribute: Any, test: str | None = None, *args: Any) -> list[Any]:
    return _selected(value, attribute, test, args, wanted=False)


def _selected(value: Any, attribute: Any, test: str | None, args: tuple[Any, ...], *, wanted: bool) -> list[Any]:
    items = items_of(value)
    looked_at = projected(items, attribute)
    if test is None:
        return [item for item, seen in zip(items, looked_at, strict=True) if bool(seen) is wanted]
    function = known_in("test", test, TESTS)
    if test == "in" and args and isinstance(args[0], (list, str)):
        charge(len(args[0]) * len(items))  # each is searched for
    return [item for item, seen in zip(items, looked_at, strict=True) if bool(function(seen, *args)) is wanted]
