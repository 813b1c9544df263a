"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

from functools import cached_property  # noqa: TID251  the one place
from typing import Any, Self, TypeVar, overload

T = TypeVar("T")


class lazy(cached_property[T]):  # noqa: N801  as the one that it replaces
    """`functools.cached_property` as it is from Python 3.12 on: without a lock that a forked child could inherit
    (`celery_cascade.forks` tells what comes of it).

    Two threads that ask at once may both compute; the later value stays.
    """

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Self | T:
        if instance is None:
            return self
        value: T = self.func(instance)
        assert self.attrname is not None
        instance.__dict__[self.attrname] = value
        return value
