"""Lists and mappings that tell of a change inside them, at any depth (R42).

`value["a"]["b"].append(1)` reaches the root, and the root's `changed()` decides what becomes of it: the ORM's row is
marked (`orm_json`), the handle's context is written (`sessions.context`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from celery_cascade.errors import NotSerializable
from celery_cascade.persistence.codec import MAX_DEPTH


class Tracked:
    """A part of a tracked value. A pickle or a deep copy of a part is a plain value that belongs to nobody."""

    root: Any = None  #: has `changed()`; a root is its own root

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return plain, (plain(self),)


class TrackedDict(Tracked, dict[Any, Any]):
    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        """As dict's; what it returns is the tracked value, and a key that is there is no change."""
        if key not in self:
            self[key] = default
        return self[key]


class TrackedList(Tracked, list[Any]):
    pass


def adopt(root: Any) -> Any:
    """Make a mapping or list the root of all that is in it.

    Raises:
        NotSerializable: it contains itself, or is nested too deep to be stored.
    """
    root.root = root
    _wrap_inside(root, root)
    return root


def plain(value: Any) -> Any:
    """The same value, of dicts and lists that tell nobody."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def _wrap_inside(value: Any, root: Any, depth: int = 0) -> None:
    """Make every list and mapping inside a tracked one. Those of another root are copied: a value has one root."""
    if depth > MAX_DEPTH:
        raise NotSerializable(f"the value is nested deeper than {MAX_DEPTH} levels, or contains itself")
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    setter = dict.__setitem__ if isinstance(value, dict) else list.__setitem__
    for key, part in pairs:
        if isinstance(part, Tracked) and part.root is root and part is not root:
            continue
        if isinstance(part, dict):
            inner: Any = TrackedDict(part)
        elif isinstance(part, (list, tuple)):
            inner = TrackedList(part)
        else:
            continue
        inner.root = root
        _wrap_inside(inner, root, depth + 1)
        setter(value, key, inner)


def _telling(method: Callable[..., Any], restore: Callable[[Any, Any], None]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = list(self) if isinstance(self, list) else dict(self)
        result = method(self, *args, **kwargs)
        try:
            _wrap_inside(self, self.root)
            if self.root is not None:
                self.root.changed()
        except BaseException:  # refused: it is as if it had not been asked for
            restore(self, before)
            raise
        return result

    return call


def _restore_dict(value: Any, before: Any) -> None:
    dict.clear(value)
    dict.update(value, before)


def _restore_list(value: Any, before: Any) -> None:
    list.__setitem__(value, slice(None), before)


_DICT = "__setitem__ __delitem__ __ior__ clear pop popitem update"
_LIST = "__setitem__ __delitem__ __iadd__ __imul__ append clear extend insert pop remove reverse sort"
for _class, _base, _names, _undo in (
    (TrackedDict, dict, _DICT, _restore_dict),
    (TrackedList, list, _LIST, _restore_list),
):
    for _name in _names.split():
        setattr(_class, _name, _telling(getattr(_base, _name), _undo))
