"""R81: a migration that is killed at any statement is made good by the next one, also under a running worker."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from celery_cascade.persistence import migrate
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.store import Store
from celery_cascade.testing.points import CRASHED
from crash import checks, lives, migrating
from crash.grounds import Ground, Grounds
from crash.lives import Life, Where
from crash.project import SESSION

pytestmark = [pytest.mark.integration, pytest.mark.slow]
#: A server takes seconds for what a file does in a moment: every place on SQLite, every fourth on them, from a random
#: one on. CASCADE_SOAK=1 has every place everywhere.
STEP_ON_SERVERS = 1 if os.environ.get("CASCADE_SOAK") else 4
OUT_OF_DATE = 7  #: exit code of a worker whose store has other tables


@contextmanager
def life(target: Any, where: Where, number: int, *arguments: Any) -> Iterator[Life]:
    living = Life(target, where, number, *arguments)
    try:
        yield living
    finally:
        living.kill()


def upgraded(where: Where, number: int, dies_at: int = 0) -> int | None:
    """How a migration in a process of its own ended."""
    with life(migrating.upgrade, where, number, dies_at) as living:
        return living.ended(60)


@pytest.fixture
def place(on: tuple[str, Grounds]) -> Iterator[tuple[Where, Database]]:
    with on[1].one() as ground, ground.run("threads", acks_late=True) as (where, store):
        yield where, store.database
        _whole(ground, store.database)


def _whole(ground: Ground, database: Database) -> None:
    """For who comes next; a file is a new one each time."""
    if ground.database != "sqlite":
        migrate.upgrade(database)


def test_a_first_migration_that_is_killed_anywhere_is_made_good_by_the_next(place: tuple[Where, Database]) -> None:
    """R81, R46: where DDL cannot be undone as where it can."""
    where, database = place
    wanted = migrating.shape(database)
    migrate.downgrade(database, "base")
    assert upgraded(where, 1) == 0
    places = migrating.places_of(where.log(1))
    assert {"migration_open", "migrated"} < set(places)
    assert len(places) > 30
    step = 1 if database.family == "sqlite" else STEP_ON_SERVERS
    for number in range(random.SystemRandom().randint(1, step), len(places) + 1, step):
        migrate.downgrade(database, "base")
        assert upgraded(where, 1 + number, number) == CRASHED
        migrate.upgrade(database)
        migrate.check(database)
        assert migrating.shape(database) == wanted, f"killed at {places[number - 1]}"


def test_a_later_migration_that_is_killed_anywhere_is_made_good_under_a_running_worker(
    place: tuple[Where, Database],
) -> None:
    """R81, R46: a worker that runs goes on, one that starts meanwhile refuses, and no session is touched."""
    where, database = place
    store, wanted = Store(database), migrating.shape(database)
    with life(lives.work, where, 1, None) as running:
        _wait_for_end(store)
        migrate.downgrade(database, "0001")
        assert upgraded(where, 2) == 0
        rows = checks.everything(store, SESSION)  # without what only a later revision knew
        places = migrating.places_of(where.log(2))
        for number in range(1, len(places) + 1):
            migrate.downgrade(database, "0001")
            assert upgraded(where, 2 + number, number) == CRASHED
            if migrate.current(database) == "0001":
                with life(lives.go_on, where, 100 + number, None) as new:
                    assert new.ended(60) == OUT_OF_DATE, where.words(100 + number).read_text()[-2000:]
            migrate.upgrade(database)
            assert migrating.shape(database) == wanted, f"killed at {places[number - 1]}"
            assert checks.everything(store, SESSION) == rows
        store.delete_session(SESSION)
        with life(lives.work, where, 99, None):
            _wait_for_end(store)
        assert running.ended() is None


def _wait_for_end(store: Store) -> None:
    give_up_at = time.monotonic() + 60
    while checks.status_of(store, SESSION) != "completed":
        assert time.monotonic() < give_up_at, checks.status_of(store, SESSION)
        time.sleep(0.05)
