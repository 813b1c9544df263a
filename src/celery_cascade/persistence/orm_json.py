"""Values of `Json` columns that tell the ORM of a change inside them, at any depth (R42).

SQLAlchemy's own MutableDict sees its top level only: `state.context_variables["a"]["b"].append(1)` would be lost.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.mutable import Mutable

from celery_cascade.persistence.tracked import TrackedDict, TrackedList, adopt, plain


class TrackedJson(Mutable):
    """What makes a value of a `Json` column tracked. Numbers, text and the like are left as they are."""

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
