"""What is crashed: stages one after the other, each a life that works or acts, and the end that must come of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from celery_cascade.crash_points import CrashPoint
from celery_cascade.persistence import tables
from celery_cascade.persistence.store import Store
from crash import checks, lives
from crash.places import Crash
from crash.project import FORK, NEW, NEXT, RERUN, SESSION


def ended(store: Store) -> bool:
    """The session has come to an end, or waits for a person."""
    return checks.status_of(store, SESSION) not in (None, "active")


def completed(store: Store) -> bool:
    """Nothing is left to do."""
    return checks.status_of(store, SESSION) == "completed"


def all_completed(store: Store) -> bool:
    """Nor of its fork and its rerun."""
    return all(checks.status_of(store, one) == "completed" for one in (SESSION, FORK, RERUN))


def conversed(store: Store) -> bool:
    """Both turns of the conversation are over."""
    return all(checks.status_of(store, one) == "completed" for one in (SESSION, NEXT))


def pruned(store: Store) -> bool:
    """Nothing is left but what has to stay."""
    with store.database.read() as conn:
        return conn.execute(sa.select(sa.func.count()).select_from(tables.sessions)).scalar() == NEW


@dataclass(frozen=True, slots=True)
class Stage:
    """One kind of life.

    Args:
        name: of the stage.
        target: what a life of it does.
        until: a worker is done when this is so; None = it acts and ends by itself, with exit code 0.
        setup: a crash that belongs to the scenario: the stage is over when it has come about.
        enumerated: whether crashes are tried in it.
    """

    name: str
    target: Callable[..., None]
    until: Callable[[Store], bool] | None = None
    setup: Crash | None = None
    enumerated: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """Stages, and what must be so at the end.

    Args:
        name: of the scenario.
        stages: in their order.
        status: of the session at the end; None = there is none.
        steps: whether the statuses of the steps are the same in every run.
        settings: of the app.
        concurrency: of a pool that has one.
        children: whether the worker goes on by itself when a child of its pool is lost. A prune is no step of a
            session: what is left of it is for the next one.
        turns: sessions whose ends must be those of the undisturbed run, what they have shared and said included.
        beside: other sessions that must come to the same end, and the steps that each has from elsewhere.
    """

    name: str
    stages: tuple[Stage, ...]
    status: str | None = "completed"
    steps: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    concurrency: int = 2
    children: bool = True
    turns: tuple[str, ...] = (SESSION,)
    beside: dict[str, frozenset[str]] = field(default_factory=dict)


#: Three steps whose effects are done and whose worker is dead.
_ORPHANS = Stage(
    "orphans",
    lives.work,
    setup=Crash(together=frozenset(f"{step}:{CrashPoint.IN_BODY}" for step in ("plain", "flaky", "again"))),
    enumerated=False,
)
_RECOVER = Stage("recover", lives.recover)
_FINISH = Stage("finish", lives.go_on, until=completed, enumerated=False)
_RESUME = Stage("resume", lives.resume)

WORK = Scenario("work", (Stage("work", lives.work, until=ended),))
CANCELS = Scenario("cancels", (Stage("work", lives.work_and_cancel, until=ended),), status="cancelled", steps=False)
PRUNE = Scenario(
    "prune",
    (Stage("before", lives.before, enumerated=False), Stage("prune", lives.prune, until=pruned)),
    status=None,
    settings={"cascade_retention": {"keep_last": 0, "batch": 2}},
    children=False,
)
CONVERSATION = Scenario("conversation", (Stage("work", lives.converse, until=conversed),), turns=(SESSION, NEXT))
#: On every pool; the others act without one.
IN_WORKERS = (WORK, CANCELS, PRUNE, CONVERSATION)
RECOVERY = Scenario("recovery", (_ORPHANS, _RECOVER, _FINISH), concurrency=3)
POISONED = Scenario(
    "poisoned", (_ORPHANS, _RECOVER, _RESUME, _FINISH), settings={"cascade_max_crashes": 1}, concurrency=3
)
SUSPEND = Scenario("suspend", (_ORPHANS, Stage("suspend", lives.suspend), _RECOVER, _RESUME, _FINISH), concurrency=3)
CANCEL = Scenario("cancel", (_ORPHANS, Stage("cancel", lives.cancel), _RECOVER), status="cancelled", concurrency=3)
EXPIRY = Scenario("expiry", (_ORPHANS, Stage("expire", lives.expire), _RECOVER), status="expired", concurrency=3)
#: Taken of a session whose three steps have lost their worker, before anybody looks after those.
FORKS = Scenario(
    "forks",
    (_ORPHANS, Stage("fork", lives.fork), Stage("finish", lives.go_on, until=all_completed, enumerated=False)),
    concurrency=3,
    beside={FORK: frozenset({"first", "never"}), RERUN: frozenset()},
)
OPERATIONS = (RECOVERY, POISONED, SUSPEND, CANCEL, EXPIRY, FORKS)
SCENARIOS = {one.name: one for one in (*IN_WORKERS, *OPERATIONS)}
