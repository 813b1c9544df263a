"""Tables, statements and the store. For users: `models` and `get_db_session`, loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_cascade.persistence.orm_session import get_db_session

__all__ = ["get_db_session"]


def __getattr__(name: str) -> Any:
    if name == "get_db_session":
        from celery_cascade.persistence.orm_session import get_db_session

        return get_db_session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
