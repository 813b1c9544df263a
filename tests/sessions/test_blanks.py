"""Names that differ in blanks at their end: some databases hold them for the same."""

from __future__ import annotations

import uuid

import pytest

from celery_cascade.errors import UsageError
from sessions.kit import Kit


def test_a_resource_with_a_blank_at_its_end_is_not_another_ones(any_kit: Kit) -> None:
    """R102: `ann ` is not ann; MariaDB and MySQL compare them as the same, so such a name is refused."""
    thread = uuid.uuid4().hex
    any_kit.run("a", thread_id=thread, resource_id="ann")
    threads = any_kit.cascades.threads
    for name in ("ann ", "ann  "):
        with pytest.raises(UsageError, match="blank"):
            threads.get(thread, name)
        with pytest.raises(UsageError, match="blank"):
            any_kit.run("a", thread_id=thread, resource_id=name)
        with pytest.raises(UsageError, match="blank"):
            any_kit.run("a", thread_id=f"{thread} ", resource_id="ann")
        with pytest.raises(UsageError, match="blank"):
            any_kit.cascades.sessions(resource_id=name)
    assert threads.get(thread, " ann") is None
