"""What the ORM's users change in `SessionState.context_variables` is written down as all other changes are (R139)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, event, insert
from sqlalchemy.orm import attributes

from celery_cascade import deltas
from celery_cascade.persistence import codec
from celery_cascade.persistence.types import statement_time


def keep_changes(state_class: Any, change_class: Any) -> None:
    """Have each flush that changes the context write its change, and bring the head's fold up to date.

    Steps' changes may be later than what the user saw in `context_variables`: they stay. That nobody changes the
    session meanwhile is seen to by the version in the flush's own UPDATE.
    """
    table = change_class.__table__

    @event.listens_for(state_class, "before_insert")
    def begin(_mapper: Any, _connection: Connection, state: Any) -> None:
        if state.context_variables:
            state.context_version = 1

    @event.listens_for(state_class, "after_insert")
    def write_first(_mapper: Any, connection: Connection, state: Any) -> None:
        if state.context_variables:
            _write(connection, table, state.session_id, 1, deltas.diff({}, _plain(state)))

    @event.listens_for(state_class, "before_update")
    def write(_mapper: Any, connection: Connection, state: Any) -> None:
        if attributes.get_history(state, "context_variables").has_changes():
            delta = _fold(connection, state)
            if delta:
                _write(connection, table, state.session_id, state.version + 1, delta)


def _fold(connection: Connection, state: Any) -> list[list[Any]]:
    """What the user has changed; his value is replaced by one that has the changes of others in it, too."""
    from celery_cascade.persistence.context import changes_of, keep_base, lock_context

    if lock_context(connection, state.session_id) != state.version:
        return []  # the flush's own UPDATE is about to say so
    keep_base(connection, state.session_id)
    rows = changes_of(connection, state.session_id)
    delta = deltas.diff(deltas.context_at(rows, state.context_version or 1), _plain(state))
    value = deltas.apply(deltas.context_at(rows), delta)
    if deltas.diff(_plain(state), value):
        state.context_variables = codec.from_plain(value)
    if rows or delta:
        state.context_version = state.version + 1
    return delta


def _plain(state: Any) -> Any:
    return codec.to_plain(state.context_variables or {}, what="context")


def _write(connection: Connection, table: Any, session_id: str, version: int, delta: list[list[Any]]) -> None:
    row = {"session_id": session_id, "version": version, "delta": deltas.written(delta)}
    connection.execute(insert(table).values(row | {"set_at": statement_time()}))
