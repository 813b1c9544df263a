"""Pages define tasks as users do, with names that other tests' apps have, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import _state


@pytest.fixture(autouse=True)
def no_task_of_a_page_is_shared() -> Iterator[None]:
    """`@app.task` registers a task with every app that is finalized later on: those of other tests would have it."""
    before = set(_state._on_app_finalizers)
    yield
    _state._on_app_finalizers.intersection_update(before)
