"""What is asked of a store that is full: pages of lists, trees, diffs; and forks, which write to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from celery_cascade import Cascades
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.sessions.family import family_of
from measure import many

COUNTED = 10_000
ROOT = many.id_of(4_000)
ONE, OTHER = many.id_of(4_002), many.id_of(4_004)  #: of the cascade whose definition is stored, and completed
FORK, ORIGIN = many.id_of(4_050), many.id_of(4_049)
Question = Callable[[Cascades], Any]


def questions(count: int) -> dict[str, Question]:
    """What is asked of a store with so many sessions, and what is written to it."""
    return _lists(count) | {
        "the family of a session": lambda cascades: family_of(cascades.runtime, ROOT),
        "diff of two sessions": lambda cascades: cascades.diff(ONE, OTHER),
        "diff of a fork and its origin": lambda cascades: cascades.diff(ORIGIN, FORK),
        "fork, planned": lambda cascades: cascades.session(ONE).plan_fork(at="ship"),
        "fork": lambda cascades: cascades.session(ONE).fork(at="ship"),
        "rerun": lambda cascades: cascades.session(OTHER).rerun(),
    }


def _lists(count: int) -> dict[str, Question]:
    middle = (many.moment_of(count // 2), many.id_of(count // 2))
    begin, end = many.moment_of(count // 2), many.moment_of(count // 2) + timedelta(hours=1)
    of_head = (many.moment_of(count // 2), f"h{count // 2}")
    filters = {
        "newest": SessionFilter(),
        "a page in the middle": SessionFilter(before=middle),
        "cascade, half of all": SessionFilter(cascade="order"),
        "cascade, in the middle": SessionFilter(cascade="order", before=middle),
        "cascade, one in a hundred": SessionFilter(cascade="cascade-7"),
        "completed": SessionFilter(status=["completed"]),
        "completed, in the middle": SessionFilter(status=["completed"], before=of_head),
        "failed": SessionFilter(status=["failed"]),
        "suspended, all of them old": SessionFilter(status=["suspended"]),
        "failed or suspended": SessionFilter(status=["failed", "suspended"]),
        "failed of a cascade": SessionFilter(status=["failed"], cascade="cascade-3"),
        "failed of a cascade that has none": SessionFilter(status=["failed"], cascade="cascade-7"),
        "at a step": SessionFilter(step="ship"),
        "tag, one in ten": SessionFilter(tags=["nightly"]),
        "two tags": SessionFilter(tags=["day-20", "nightly"]),
        "resource": SessionFilter(resource_id="r7"),
        "thread": SessionFilter(thread_id="t7"),
        "tree": SessionFilter(root=ROOT),
        "forks of a session": SessionFilter(forked_from=many.id_of(4_049)),
        "an hour in the middle": SessionFilter(since=begin, until=end),
        "failed before the middle": SessionFilter(status=["failed"], until=begin),
        "mode, nearly all": SessionFilter(mode="cascade"),
        "mode, one in a thousand": SessionFilter(mode="audit"),
        "set of files, one in a hundred": SessionFilter(execution_key="k7"),
        "id by its first 6 letters": SessionFilter(prefix=many.id_of(count // 3)[:6]),
        "input text, in all of them": SessionFilter(inputs=[["customer"]]),
        "input text, in one of 5,000": SessionFilter(inputs=[['"customer":"ann77"']]),
        "input text, of one resource": SessionFilter(inputs=[["ann77"]], resource_id="r77"),
        "error text": SessionFilter(error="no stock of 33"),
    }
    asked: dict[str, Question] = {
        name: (lambda cascades, wanted=wanted: cascades.runtime.store.sessions(wanted))
        for name, wanted in filters.items()
    }
    for name in ("newest", "failed", "cascade, half of all"):
        wanted = filters[name]
        asked[f"count to 10,000: {name}"] = lambda cascades, wanted=wanted: cascades.runtime.store.count(
            wanted, COUNTED
        )
    asked["turns that have come"] = lambda cascades: cascades.runtime.store.ready_turns()
    return asked
