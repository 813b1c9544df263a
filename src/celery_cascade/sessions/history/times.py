"""When each version of a session was made, as the rows tell that bear it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from celery_cascade.persistence.past import Past
from celery_cascade.states import FINAL_STEP


def borne(past: Past) -> Iterator[tuple[int, datetime]]:
    """(version, moment) of each row that bears a version after the first; several rows may bear one."""
    for step in past.steps:
        moment = step["finished_at"] if step["status"] in FINAL_STEP else None
        if step["version"] > 1 and moment is not None:
            yield step["version"], moment
    for rows, column in (
        (past.attempts, "finished_at"),
        (past.actions, "done_at"),
        (past.said, "created_at"),
        (past.changes, "set_at"),
    ):
        for row in rows:
            if row["version"] > 1:
                yield row["version"], row[column]


def moments(past: Past) -> tuple[list[datetime], set[int]]:
    """The moment of each version (index 0 is that of the first, too), and the versions that no row bears.

    A step that is taken from a dead worker makes no version: its attempt bears the one that it found. So of several
    moments the earliest counts.
    """
    last: int = past.session["version"]
    first: dict[int, datetime] = {}
    for version, moment in borne(past):
        if version <= last:
            first[version] = min(moment, first.get(version, moment))
    missing = set(range(2, last + 1)) - first.keys()
    if last in missing:
        first[last] = past.session["updated_at"]
    began = past.session["created_at"]
    found = [began, began]
    for version in range(2, last + 1):
        found.append(max(found[-1], first.get(version, found[-1])))
    return found, missing
