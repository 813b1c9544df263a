"""For the tests of your own project: crash your cascades everywhere, and see what comes of it.

Names are loaded when they are first used: the fixture needs pytest, which a worker does not have.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_cascade.testing.crash_report import CrashReport
    from celery_cascade.testing.crashing import crash_test
    from celery_cascade.testing.pytest_plugin import crashtest

__all__ = ["CrashReport", "crash_test", "crashtest"]

_HOMES = {"CrashReport": "crash_report", "crash_test": "crashing", "crashtest": "pytest_plugin"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
