"""Values of `Json` columns that tell the ORM of a change inside them, at any depth (R42).

SQLAlchemy's own MutableDict sees its top level only: `state.context_variables["a"]["b"].append(1)` would be lost.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.ext.mutable import Mutable

from celery_cascade.lazy import lazy
from celery_cascade.persistence.tracked import TrackedDict, TrackedList, adopt, plain


class _Rows(WeakKeyDictionary[Any, str]):
    """The rows that a value belongs to, kept alive by it.

    SQLAlchemy holds unchanged rows weakly: in `db.get(…).context_variables["n"] += 1` the row would be gone before
    the change is told, and the change with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[Any, Any] = {}

    def __setitem__(self, state: Any, key: str) -> None:
        super().__setitem__(state, key)
        self._alive[state] = state.obj()

    def pop(self, state: Any, *default: Any) -> Any:
        self._alive.pop(state, None)
        return super().pop(state, *default)


class TrackedJson(Mutable):
    """What makes a value of a `Json` column tracked. Numbers, text and the like are left as they are."""

    @lazy
    def _parents(self) -> Any:
        return _Rows()

    @classmethod
    def coerce(cls, key: str, value: Any) -> Any:
        if isinstance(value, (_RootDict, _RootList)):
            return value
        if isinstance(value, dict):
            return adopt(_RootDict(value))
        if isinstance(value, (list, tuple)):
            return adopt(_RootList(value))
        return value


class _RootDict(TrackedDict, TrackedJson):
    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _root, (plain(self),)


class _RootList(TrackedList, TrackedJson):
    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _root, (plain(self),)


def _root(value: Any) -> Any:
    return TrackedJson.coerce("", value)
