"""What a fork has to know of its origin: how its steps stand, and which conversation it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from celery_cascade.persistence.conversations import place_of, up_to
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.tables import THIS_HEAD, heads, steps
from celery_cascade.persistence.views import not_found
from celery_cascade.states import StepStatus


@dataclass(frozen=True, slots=True)
class OriginStep:
    """One step of the origin, with all its items.

    Attributes:
        status: of the step itself.
        version: of the session, when it last changed.
        rows: its own and those of its items.
    """

    status: StepStatus
    version: int
    rows: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A session as it was at one version: its steps that have a row, without their payloads."""

    session_id: str
    version: int
    steps: Mapping[str, OriginStep]

    @property
    def ended(self) -> dict[str, OriginStep]:
        """The steps that ended well."""
        return {name: step for name, step in self.steps.items() if step.status in _WELL}


_WELL = frozenset({StepStatus.SUCCEEDED, StepStatus.SKIPPED})

#: One statement, so that versions of steps and head belong to one moment.
_STEPS = (
    select(heads.c.version, steps.c.step, steps.c.item, steps.c.status, steps.c.version.label("since"))
    .select_from(heads.outerjoin(steps, steps.c.session_id == heads.c.session_id))
    .where(THIS_HEAD)
    .order_by(steps.c.step, steps.c.item)
)


def read_origin(db: Database, session_id: str) -> Origin:
    """How a session's steps stand. Raises SessionNotFound."""
    with db.read() as conn:
        found = conn.execute(_STEPS, {"b_session": session_id}).all()
    if not found:
        raise not_found(db, session_id)
    by_name: dict[str, list[Any]] = {}
    for row in found:
        if row.step is not None:
            by_name.setdefault(row.step, []).append(row)
    known = {
        name: OriginStep(StepStatus(rows[0].status), max(row.since for row in rows), len(rows))
        for name, rows in by_name.items()
    }
    return Origin(session_id=session_id, version=found[0].version, steps=known)


def turns_of(db: Database, session_id: str) -> list[str]:
    """The sessions of its conversation that came before it, and it."""
    with db.read() as conn:
        place = place_of(conn, session_id)
        return [] if place is None else up_to(conn, place)
