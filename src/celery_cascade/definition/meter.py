"""What a render may make: bounded by the size of its context, so that `'x' * 10**9` fails before it begins.

The meter of the running render is found by a context variable: filters are plain functions of their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from jinja2 import Undefined

from celery_cascade.definition.limits import MADE_AT_LEAST, MADE_PER_CONTEXT


class TooMuch(Exception):
    """A template makes more than its context's size allows."""


class Meter:
    """Counts the characters and values that one render makes.

    Args:
        context: what the templates may name. It is measured only when a render makes more than a megabyte.
    """

    __slots__ = ("_context", "_limit", "_measured", "_used")

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._context = context
        self._limit = MADE_AT_LEAST
        self._measured = False
        self._used = 0

    def charge(self, amount: int) -> None:
        """Count `amount` more.

        Raises:
            TooMuch: that is over the limit.
        """
        self.expect(amount)
        self._used += amount

    def expect(self, amount: int) -> None:
        """Whether `amount` may be made; it is counted when it is there.

        Raises:
            TooMuch: that is over the limit.
        """
        if self._used + amount <= self._limit:
            return
        if not self._measured:
            self._measured = True
            self._limit += MADE_PER_CONTEXT * size(self._context)
        if self._used + amount > self._limit:
            raise TooMuch(f"the template makes more than {self._limit:,} characters")


METER: ContextVar[Meter] = ContextVar("celery_cascade_meter")


def charge(amount: int) -> None:
    """Count `amount` for the running render."""
    METER.get().charge(amount)


def expect(amount: int) -> None:
    """Whether the running render may make `amount`, before a function makes it."""
    METER.get().expect(amount)


def charge_for(value: Any) -> None:
    """Count all of `value`, which a result holds or a text is made of.

    Raises:
        TooMuch: that is over the limit.
        UndefinedError: it holds a name that is not defined.
    """
    meter = METER.get()
    if isinstance(value, (str, int, float)) or value is None:
        meter.charge(_weight(value))
        return
    waiting = [value]
    while waiting:  # charged piece by piece: what is shared a thousandfold is never walked to its end
        item = waiting.pop()
        meter.charge(_weight(item))
        waiting.extend(_parts(item))


def size(value: Any) -> int:
    """The weight of a tree; what appears twice counts twice."""
    total = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        total += _weight(item)
        waiting.extend(_parts(item))
    return total


def _weight(item: Any) -> int:
    """Characters; what is no text counts as 16 of them, for it takes as much memory and more time."""
    return 16 + len(item) if isinstance(item, str) else 16


def _parts(item: Any) -> Sequence[Any]:
    if item is None or isinstance(item, (str, int, float)):
        return ()
    if isinstance(item, Undefined):
        item._fail_with_undefined_error()
    if isinstance(item, Mapping):
        return [*item.keys(), *item.values()]
    return item if isinstance(item, (list, tuple)) else ()
