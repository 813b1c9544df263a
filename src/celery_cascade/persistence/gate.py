"""The head's lock and the token: what every change of a session goes through (rules 2 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, select, tuple_

from celery_cascade.errors import ClaimLost
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import StepKey
from celery_cascade.persistence.tables import STEP_KEY, THIS_HEAD, THIS_STEP, heads, steps

_HEAD = (heads.c.version, heads.c.open_steps, heads.c.halt, heads.c.status, heads.c.status_reason)
_LOCK_HEAD = select(*_HEAD).where(THIS_HEAD).with_for_update()
_LOCK_HEAD_AND_JOINS = (
    select(*_HEAD, steps.c.step, steps.c.needs_left)
    .select_from(
        heads.join(
            steps,
            and_(
                steps.c.session_id == heads.c.session_id,
                steps.c.item == -1,
                steps.c.step.in_(bindparam("b_joins", expanding=True)),
            ),
        )
    )
    .where(THIS_HEAD)
    .with_for_update()
)


def lock_head(conn: Connection, session_id: str, joins: Sequence[str] = ()) -> tuple[Any, dict[str, int]]:
    """Lock the session's head (rule 4: always first) and read the counters of these joins.

    Raises:
        ClaimLost: the session is gone.
    """
    parameters = {"b_session": session_id}
    if joins:
        found = conn.execute(_LOCK_HEAD_AND_JOINS, parameters | {"b_joins": list(joins)})
    else:
        found = conn.execute(_LOCK_HEAD, parameters)
    rows: list[Any] = list(found)
    if not rows:
        raise ClaimLost(f"session {session_id} is gone from the store", hint="See what is there: cascade ls")
    return rows[0], {row.step: row.needs_left for row in rows} if joins else {}


_BY_KEY = "FORCE INDEX (PRIMARY)"


def lock_unheld(*columns: ColumnElement[Any]) -> Select[Any]:
    """Lock those of the steps `b_keys` that nobody else holds; the others are skipped.

    For sweeps: they lock steps of many sessions without the heads, so they must not wait, or rule 4 is broken. By
    primary key, because InnoDB locks the entries of whatever index it searches, those of skipped rows too.
    """
    return (
        select(*columns)
        .where(tuple_(*STEP_KEY).in_(bindparam("b_keys", expanding=True)))
        .with_hint(steps, _BY_KEY, "mysql")
        .with_hint(steps, _BY_KEY, "mariadb")
        .with_for_update(skip_locked=True)
    )


def lost(key: StepKey) -> ClaimLost:
    """The refusal of a late writer."""
    return ClaimLost(
        f"session {key.session_id}: step {key.step!r} belongs to another worker by now;"
        " this attempt's result is refused",
        hint=f"See who runs it: cascade show {key.session_id}",
    )


_MINE: ColumnElement[bool] = and_(THIS_STEP, steps.c.token == bindparam("b_token"))


def ended_by_me(db: Database, key: StepKey, token: str, status: str) -> bool:
    """Whether a commit whose answer was lost went through after all: final, and my token (rule 2)."""
    statement = select(steps.c.status).where(_MINE)
    with db.read() as conn:
        found = conn.execute(
            statement,
            {"b_session": key.session_id, "b_step": key.step, "b_item": key.item, "b_token": token},
        ).scalar()
    return found == status
