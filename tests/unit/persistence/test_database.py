"""The database object in processes that fork."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celery_cascade.persistence.database import Database


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to see what is open")
def test_a_client_that_forks_hands_no_open_sqlite_connection_to_its_child(tmp_path: Path) -> None:
    """CELERY.md 8.1: a pre-forking web server is no worker, and nothing of ours tells it to close its store."""
    database = Database(f"sqlite:///{tmp_path / 'store.sqlite'}")
    database.ping()
    pid = os.fork()
    if pid == 0:
        held = [fd.resolve().name for fd in Path("/proc/self/fd").iterdir()]
        os._exit(any(name.startswith("store.sqlite") for name in held))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    database.ping()
