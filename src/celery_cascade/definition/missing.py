"""Looking into values: keys of mappings and numbers of lists only, and what is said when there is nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, Undefined
from jinja2.utils import missing

from celery_cascade.words import listed, shown, suggestion, type_name


class Missing(StrictUndefined):
    """What is not there: every use but `default` and `is defined` raises, and names what is there instead."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        if self._undefined_obj is missing:
            return f"{self._undefined_name} is not defined"
        return _lacks(self._undefined_obj, self._undefined_name)


def look_up(holder: Any, key: Any) -> Any:
    """`holder.key` or `holder[key]`: data only, never a method or an attribute of Python's.

    Raises:
        UndefinedError: the holder itself is not defined.
    """
    if isinstance(holder, Undefined):
        holder._fail_with_undefined_error()
    if isinstance(key, Undefined):
        key._fail_with_undefined_error()
    if isinstance(holder, Mapping):
        found = holder.get(key, missing) if isinstance(key, (str, int, float)) else missing
        return Missing(obj=holder, name=key) if found is missing else found
    if isinstance(holder, (list, tuple, str)) and isinstance(key, int) and -len(holder) <= key < len(holder):
        return holder[key]
    return Missing(obj=holder, name=key)


def _lacks(holder: Any, name: Any) -> str:
    wanted = shown(name)
    if holder is None:
        return f"null has no {wanted}; the output of a skipped step is null"
    if isinstance(holder, Mapping):
        keys = [key for key in holder if isinstance(key, str)]
        near = suggestion(name, keys) if isinstance(name, str) else ""
        return f"there is no {wanted}; the keys are {listed(keys) or 'none'}{near}"
    if isinstance(holder, (list, tuple, str)) and isinstance(name, int):
        return f"there is no number {name}; the {type_name(holder)} has {len(holder)}, counted from 0"
    return f"a {type_name(holder)} has no {wanted}"
