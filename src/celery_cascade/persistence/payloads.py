"""Every value that a session bears, as it is stored: where what must not be shown may stand (R145)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import bindparam, select, type_coerce, union_all

from celery_cascade import deltas
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.tables import context_changes, heads, messages, sessions, steps
from celery_cascade.persistence.types import PlainJson

_VALUES = union_all(
    *(
        select(column.label("value")).where(column.table.c.session_id == bindparam("b_session"), column.is_not(None))
        for column in (
            sessions.c.input_data,
            heads.c.output,
            steps.c.call,
            steps.c.output,
            messages.c.content,
            messages.c.extra,
        )
    )
)
_CHANGES = select(context_changes.c.delta).where(context_changes.c.session_id == bindparam("b_session"))
_CONTEXT = select(type_coerce(heads.c.context_variables, PlainJson())).where(
    heads.c.session_id == bindparam("b_session")
)


def payloads(db: Database, session_id: str) -> Iterator[str]:
    """Inputs, calls, outputs, messages and context, as texts of JSON; of each change of the context what it set."""
    this = {"b_session": session_id}
    with db.read() as conn:
        texts = list(conn.execute(_VALUES, this).scalars())
        changes = list(conn.execute(_CHANGES, this).scalars())
        context = conn.execute(_CONTEXT, this).scalar()
    yield from texts
    yield json.dumps(context)
    for delta in changes:
        yield json.dumps(deltas.apply({}, json.loads(delta)))
