"""Lists and mappings that tell the ORM of a change inside them, at any depth (R42).

SQLAlchemy's own MutableDict sees its top level only: `state.context_variables["a"]["b"].append(1)` would be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from sqlalchemy.ext.mutable import Mutable


class _Tracked:
    """A part of a tracked value; `root` is what the ORM's row holds. A copy of a part is a plain value."""

    root: TrackedJson | None = None

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _plain, (_plain(self),)


class TrackedJson(Mutable):
    """What makes a value of a `Json` column tracked. Numbers, text and the like are left as they are."""

    @classmethod
    def coerce(cls, key: str, value: Any) -> Any:
        if isinstance(value, (_TrackedRootDict, _TrackedRootList)):
            return value
        if isinstance(value, dict):
            return _adopted(_TrackedRootDict(value))
        if isinstance(value, (list, tuple)):
            return _adopted(_TrackedRootList(value))
        return value


class TrackedDict(_Tracked, dict[Any, Any]):
    pass


class TrackedList(_Tracked, list[Any]):
    pass


class _TrackedRootDict(TrackedDict, TrackedJson):
    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _root, (_plain(self),)


class _TrackedRootList(TrackedList, TrackedJson):
    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _root, (_plain(self),)


def _root(value: Any) -> Any:
    return TrackedJson.coerce("", value)


def _adopted(value: Any) -> Any:
    value.root = value
    _wrap_inside(value, value)
    return value


def _wrap_inside(value: Any, root: TrackedJson | None) -> None:
    """Make every list and mapping inside a tracked one. Those of another row are copied: a value has one row."""
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    setter = dict.__setitem__ if isinstance(value, dict) else list.__setitem__
    for key, part in pairs:
        if isinstance(part, _Tracked) and part.root is root and not isinstance(part, TrackedJson):
            continue
        if isinstance(part, dict):
            inner: Any = TrackedDict(part)
        elif isinstance(part, (list, tuple)):
            inner = TrackedList(part)
        else:
            continue
        inner.root = root
        _wrap_inside(inner, root)
        setter(value, key, inner)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value


def _telling(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        _wrap_inside(self, self.root)
        if self.root is not None:
            self.root.changed()
        return result

    return call


for _class, _base, _names in (
    (TrackedDict, dict, "__setitem__ __delitem__ __ior__ clear pop popitem setdefault update"),
    (TrackedList, list, "__setitem__ __delitem__ __iadd__ __imul__ append clear extend insert pop remove reverse sort"),
):
    for _name in _names.split():
        setattr(_class, _name, _telling(getattr(_base, _name)))
