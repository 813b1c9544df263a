"""The distinct definitions of a cascade (R21). Their bytes are not loaded."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, select

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.tables import definitions, sessions

#: Digests that one prefix names at most, before it is told that there are too many.
_SOME = 10

_USED = (
    select(func.count(sessions.c.session_id))
    .where(sessions.c.definition_digest == definitions.c.digest)
    .correlate(definitions)
    .scalar_subquery()
)


def _of_newest(column: str) -> ColumnElement[Any]:
    return (
        select(sessions.c[column])
        .where(sessions.c.definition_digest == definitions.c.digest)
        .order_by(sessions.c.created_at.desc(), sessions.c.session_id.desc())
        .limit(1)
        .correlate(definitions)
        .scalar_subquery()
        .label(column)
    )


_VERSIONS = (
    select(
        definitions.c.digest,
        definitions.c.format,
        definitions.c.first_seen_at,
        func.length(definitions.c.body).label("bytes"),
        _USED.label("sessions"),
        _of_newest("created_at"),
        _of_newest("config_path"),
    )
    .where(definitions.c.cascade_id == bindparam("b_cascade"))
    .order_by(definitions.c.first_seen_at.desc(), definitions.c.digest)
)
_IDS = select(definitions.c.cascade_id).distinct().order_by(definitions.c.cascade_id)


def versions(db: Database, cascade_id: str) -> list[Row]:
    """One row a definition, the newest first: digest, format, bytes, when first seen, sessions, the newest's path."""
    with db.read() as conn:
        return list(conn.execute(_VERSIONS, {"b_cascade": cascade_id}).mappings())


def cascade_ids(db: Database) -> list[str]:
    """The cascades of which there are definitions."""
    with db.read() as conn:
        return list(conn.execute(_IDS).scalars())


def digests(db: Database, prefix: str) -> list[str]:
    """The digests that begin so, in their order; not more than a few."""
    statement = (
        select(definitions.c.digest)
        .where(definitions.c.digest.startswith(prefix, autoescape=True))
        .order_by(definitions.c.digest)
        .limit(_SOME)
    )
    with db.read() as conn:
        return list(conn.execute(statement).scalars())
