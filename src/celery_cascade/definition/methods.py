"""The methods that templates may call on text, mappings and lists: `{{ inputs.name.upper() }}`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import Undefined

from celery_cascade.definition.filters import FILTERS, as_text, counted
from celery_cascade.definition.meter import charge
from celery_cascade.words import suggestion, type_name, words

_PLAIN = {
    str: (
        "upper lower strip lstrip rstrip title capitalize split rsplit splitlines startswith endswith removeprefix "
        "removesuffix count find isdigit isalpha isalnum isnumeric isdecimal isupper islower isspace"
    ),
    dict: "get",
    list: "count index",
}
METHODS: dict[type, dict[str, Callable[..., Any]]] = {
    kind: {name: counted(getattr(kind, name)) for name in words(names)} for kind, names in _PLAIN.items()
}
METHODS[str]["replace"] = FILTERS["replace"]
METHODS[str]["join"] = lambda separator, values: FILTERS["join"](values, separator)
METHODS[dict]["items"] = FILTERS["items"]
METHODS[dict]["keys"] = FILTERS["list"]
METHODS[dict]["values"] = counted(lambda value: list(value.values()))

NAMES = frozenset(name for methods in METHODS.values() for name in methods)


def call_method(value: Any, name: str, *args: Any) -> Any:
    """What a method of a value gives.

    Raises:
        TypeError: values of this type have no such method here.
        UndefinedError: the value is not defined.
    """
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    for kind, methods in METHODS.items():
        if isinstance(value, kind):
            if name not in methods:
                raise TypeError(f"a {type_name(value)} has no method {name}(){suggestion(name, methods)}")
            return methods[name](value, *args)
    raise TypeError(f"a {type_name(value)} has no methods")


def concatenate(values: Iterable[Any]) -> str:
    """What `~` makes."""
    texts = [as_text(value) for value in values]
    charge(sum(map(len, texts)))
    return "".join(texts)


#: Under names that a template cannot write: `~` and method calls become these.
INNER = {"_concatenate": concatenate, "_method": call_method}
