"""Durable sessions for Celery: multi-step work that goes on by itself whatever dies.

Names are loaded when they are first used: Celery's own command imports this package for its `cascade` verb, and
every `celery …` of an environment should not pay for SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from celery_cascade.__about__ import __version__

if TYPE_CHECKING:
    from celery_cascade.app import Cascades, run_cascade
    from celery_cascade.config import Retention
    from celery_cascade.errors import CascadeError
    from celery_cascade.sessions.current import current_session
    from celery_cascade.sessions.retrying import retry_stale
    from celery_cascade.sessions.session import Session
    from celery_cascade.states import SessionStatus, StepStatus, SuspendReason

__all__ = [
    "CascadeError",
    "Cascades",
    "Retention",
    "Session",
    "SessionStatus",
    "StepStatus",
    "SuspendReason",
    "__version__",
    "current_session",
    "retry_stale",
    "run_cascade",
]

_HOMES = {
    "CascadeError": "errors",
    "Cascades": "app",
    "Retention": "config",
    "Session": "sessions.session",
    "SessionStatus": "states",
    "StepStatus": "states",
    "SuspendReason": "states",
    "current_session": "sessions.current",
    "retry_stale": "sessions.retrying",
    "run_cascade": "app",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
