"""Every value that sessions bear, as it is stored: where what must not be shown may stand (R145)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import bindparam, select, type_coerce, union_all

from celery_cascade import deltas
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.deleting import chunks
from celery_cascade.persistence.tables import context_changes, heads, messages, sessions, steps
from celery_cascade.persistence.types import PlainJson

#: Sessions whose payloads are in memory at a time.
_AT_ONCE = 100
_IDS: Any = bindparam("b_ids", expanding=True)


def _in_these(column: Any) -> Any:
    return column.table.c.session_id.in_(_IDS)


_VALUES = union_all(
    *(
        select(column.label("value")).where(_in_these(column), column.is_not(None))
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
_INPUTS = select(sessions.c.input_data).where(_in_these(sessions.c.input_data))
_CHANGES = select(context_changes.c.delta).where(_in_these(context_changes.c.delta))
_CONTEXT = select(type_coerce(heads.c.context_variables, PlainJson())).where(_in_these(heads.c.context_variables))


def payloads(db: Database, session_ids: Iterable[str]) -> Iterator[str]:
    """Inputs, calls, outputs, messages and context, as texts of JSON; of each change of the context what it set."""
    for these in chunks(list(session_ids), _AT_ONCE):
        with db.read() as conn:
            texts = list(conn.execute(_VALUES, {"b_ids": these}).scalars())
            changes = list(conn.execute(_CHANGES, {"b_ids": these}).scalars())
            contexts = list(conn.execute(_CONTEXT, {"b_ids": these}).scalars())
        yield from texts
        yield from (json.dumps(context) for context in contexts)
        for delta in changes:
            yield json.dumps(deltas.apply({}, json.loads(delta)))


def inputs(db: Database, session_ids: Iterable[str]) -> Iterator[str]:
    """Only what they were started with."""
    for these in chunks(list(session_ids)):
        with db.read() as conn:
            texts = list(conn.execute(_INPUTS, {"b_ids": these}).scalars())
        yield from texts
