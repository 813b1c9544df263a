"""What the filters are made of: the registry, counting, and looking into what they are given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Undefined

from celery_cascade.definition.meter import charge, charge_for
from celery_cascade.definition.missing import Missing, look_up
from celery_cascade.words import shown, suggestion, type_name

Function = Callable[..., Any]

FILTERS: dict[str, Function] = {}


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


def as_filter(function: Function) -> Function:
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


def default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """`default_value` in place of what is not there; with `boolean` in place of what is false, too."""
    if isinstance(value, Undefined) or (boolean and not value):
        return default_value
    return value


def known_in(what: str, name: Any, functions: Mapping[str, Function]) -> Function:
    if not isinstance(name, str) or name not in functions or name.startswith("_"):
        hint = suggestion(name, functions) if isinstance(name, str) else ""
        raise TypeError(f"{shown(name)} is no {what}{hint}")
    return functions[name]


def projected(items: list[Any], attribute: Any) -> list[Any]:
    """The items, or what each has at a dotted path such as `owner.name`."""
    if attribute is None:
        return items
    path = attribute.split(".") if isinstance(attribute, str) else [attribute]
    return [_follow(item, path) for item in items]


def _follow(item: Any, path: list[Any]) -> Any:
    for part in path:
        item = look_up(item, int(part) if isinstance(item, list) and str(part).isdecimal() else part)
    return item


def sort_key(attribute: Any, case_sensitive: bool) -> Callable[[Any], Any]:
    def key(item: Any) -> Any:
        seen = projected([item], attribute)[0]
        return seen.lower() if isinstance(seen, str) and not case_sensitive else seen

    return key


def nothing_in(value: Any) -> Missing:
    if not isinstance(value, (list, tuple, str, Mapping)):
        raise TypeError(f"this takes a list, not {type_name(value)}")
    return Missing(hint=f"the {type_name(value)} is empty")


def number_of(value: Any) -> Any:
    if not isinstance(value, (int, float)):
        raise TypeError(f"this takes a number, not {type_name(value)}")
    return value


def mapping_of(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"this takes a mapping, not {type_name(value)}")
    return value
