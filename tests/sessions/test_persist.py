"""What a call has returned is in SQL, for whoever asks next."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from celery_cascade.errors import SessionNotFound
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.store import Store
from celery_cascade.sessions import view
from sessions.kit import Kit
from support.cluster import environment


@pytest.fixture
def elsewhere(any_kit: Kit) -> Iterator[Store]:
    """Another connection, as another process has it."""
    database = Database(any_kit.runtime.database_url)
    yield Store(database)
    database.dispose()


def test_start_change_and_delete_are_there_for_others_when_they_return(any_kit: Kit, elsewhere: Store) -> None:
    """R109: create, update and delete persist before they return."""
    session = any_kit.start("a")
    assert elsewhere.session(session.id)["status"] == "active"
    session.suspend()
    assert elsewhere.head(session.id)["status_reason"] == "operator"
    session.cancel("no longer wanted")
    assert elsewhere.head(session.id)["status"] == "cancelled"
    any_kit.store.delete_session(session.id)
    with pytest.raises(SessionNotFound):
        elsewhere.head(session.id)


def test_a_session_is_found_after_the_process_that_ran_it_was_killed(kit: Kit) -> None:
    """R108: the old id gives the last state and no "not found"."""
    code = (
        "import os\n"
        "from celery import Celery\n"
        "from celery_cascade import Cascades\n"
        f"app = Celery('proj', broker='memory://'); app.conf.cascade_database_url = {kit.runtime.database_url!r}\n"
        "cascades = Cascades(app)\n"
        "@app.task(name='one')\ndef one(): return 1\n"
        "@app.task(name='two')\ndef two(): os.kill(os.getpid(), 9)\n"
        "steps = [{'id': 'a', 'task': 'one'}, {'id': 'b', 'task': 'two'}]\n"
        "cascades.run({'cascade': 'c', 'steps': steps}, session_id='old')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=False)
    assert done.returncode == -9, done.stderr[-2000:]
    found = kit.cascades.session("old").to_dict()
    assert found["status"] == "active"
    assert found["completed_steps"] == ["a"]


def test_moments_are_shown_in_utc_whatever_zone_they_came_in() -> None:
    """R149, R96."""
    moment = datetime(2026, 11, 20, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    assert view.iso(moment) == "2026-11-20T12:00:00Z"
    assert view.iso(datetime(2026, 11, 20, tzinfo=UTC)) == "2026-11-20T00:00:00Z"
    assert view.iso(None) is None
