"""How well recovery works, in figures: crash to resume, late writers that were refused, sessions without an owner."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import and_, bindparam, case, exists, false, func, literal_column, or_, select, true, update

from celery_cascade.persistence.clock import after, now, seconds_between
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import StepKey
from celery_cascade.persistence.tables import attempts, heads, queued, running, steps, workers

#: Crashed attempts that one look takes at most, the newest.
_MOST = 10_000

_FENCE = (
    update(attempts)
    .where(
        attempts.c.session_id == bindparam("b_session"),
        attempts.c.step == bindparam("b_step"),
        attempts.c.item == bindparam("b_item"),
        attempts.c.attempt == bindparam("b_attempt"),
        attempts.c.fenced_at.is_(None),
    )
    .values(fenced_at=now())
)


def note_fenced(db: Database, key: StepKey, attempt: int, *, clock: dict[str, Any]) -> bool:
    """Write down that the late end of an attempt was refused; whether its row was there.

    The row is that of the crash, timeout or failure by which the step was taken from the late writer. Nothing of the
    session has changed, so no head is locked and no version moves, as with a release (rule 4).
    """
    parameters = clock | {
        "b_session": key.session_id,
        "b_step": key.step,
        "b_item": key.item,
        "b_attempt": attempt,
    }
    return db.transaction(lambda conn: conn.execute(_FENCE, parameters).rowcount) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recoveries:
    """What happened since some moment, and who has no owner now.

    Attributes:
        seconds: from each crash to the next claim of the step, shortest first.
        waiting: crashed attempts whose step is queued and was not claimed again yet.
        fenced: late writers that were refused.
        ownerless: active sessions with something to run and nobody alive to run it.
    """

    seconds: tuple[float, ...]
    waiting: int
    fenced: int
    ownerless: int

    @property
    def median(self) -> float | None:
        """Of the seconds; None without any."""
        return median(self.seconds) if self.seconds else None


def recoveries(
    db: Database, *, since: float, alive: Collection[str], takers: bool, clock: dict[str, Any]
) -> Recoveries:
    """Count.

    Args:
        since: seconds back from now.
        alive: ids of the living workers and of processes that run a session by themselves.
        takers: whether any of them takes messages, so that a queued step is not forsaken.
    """
    parameters = clock | {"b_since": -since}
    late = select(func.count()).select_from(attempts).where(attempts.c.fenced_at >= after("b_since"))
    with db.read() as conn:
        found = conn.execute(_crashed(db.family), parameters).all()
        fenced = conn.execute(late, parameters).scalar() or 0
        ownerless = conn.execute(_OWNERLESS[takers], {"b_alive": list(alive)}).scalar() or 0
    seconds = sorted(max(0.0, float(row.seconds)) for row in found if row.seconds is not None)
    waiting = sum(row.seconds is None and row.status == "queued" for row in found)
    return Recoveries(seconds=tuple(seconds), waiting=waiting, fenced=fenced, ownerless=ownerless)


_NEXT = attempts.alias("next")


def _crashed(family: str) -> Any:
    """The crashed attempts, with the seconds until the next attempt of the step was claimed.

    A crash shows at the last heartbeat of its worker at the earliest; a worker that beats on has lost a child, which it
    notices at once. The next attempt's claim is in the step's row, or in a row of its own if that did not succeed.
    """
    crashed_at = case(
        (workers.c.heartbeat_at >= attempts.c.finished_at, attempts.c.finished_at),
        (attempts.c.started_at > workers.c.heartbeat_at, attempts.c.started_at),
        else_=func.coalesce(workers.c.heartbeat_at, attempts.c.finished_at),
    )
    claimed_at = func.coalesce(
        _NEXT.c.started_at, case((steps.c.started_at >= attempts.c.finished_at, steps.c.started_at))
    )
    joined = (
        attempts.outerjoin(workers, workers.c.id == attempts.c.worker)
        .outerjoin(_NEXT, and_(_same_step(_NEXT), _NEXT.c.attempt == attempts.c.attempt + 1))
        .outerjoin(steps, and_(_same_step(steps), steps.c.attempt == attempts.c.attempt + 1))
    )
    return (
        select(seconds_between(family, crashed_at, claimed_at).label("seconds"), steps.c.status)
        .select_from(joined)
        .where(attempts.c.kind == "crash", attempts.c.finished_at >= after("b_since"))
        .order_by(attempts.c.finished_at.desc())
        .limit(_MOST)
    )


def _same_step(table: Any) -> Any:
    return and_(
        table.c.session_id == attempts.c.session_id,
        table.c.step == attempts.c.step,
        table.c.item == attempts.c.item,
    )


def _ownerless(takers: bool) -> Any:
    of_session = steps.c.session_id == heads.c.session_id
    by_the_living = steps.c.worker.in_(bindparam("b_alive", expanding=True))
    held = or_(and_(running(), by_the_living), and_(queued(), or_(true() if takers else false(), by_the_living)))
    return (
        select(func.count())
        .select_from(heads)
        .where(
            heads.c.status == literal_column("'active'"),
            exists().where(of_session, or_(queued(), running())),
            ~exists().where(of_session, held),
        )
    )


_OWNERLESS = {takers: _ownerless(takers) for takers in (True, False)}
