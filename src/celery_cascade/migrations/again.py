"""DDL that may be asked for again: MySQL cannot undo a migration that died on the way, so the next one finds its half.

Every revision after the first uses these instead of `op.add_column` and the like.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context, op


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a column, unless an earlier try has."""
    if not _has(table, column.name):
        op.add_column(table, column)


def drop_column(table: str, name: str) -> None:
    """Drop a column, unless an earlier try has."""
    if context.is_offline_mode() or _has(table, name):
        op.drop_column(table, name)
        if op.get_context().dialect.name in ("mysql", "mariadb"):
            # The column is only hidden there, and counts in the size of a row until the table is written anew: after
            # some ways down and up none could be added any more.
            op.execute(f"ALTER TABLE {table} FORCE")


def create_table(name: str, *columns: Any, **options: Any) -> None:
    """Make a table, unless an earlier try has."""
    if context.is_offline_mode() or not sa.inspect(op.get_bind()).has_table(name):
        op.create_table(name, *columns, **options)


def drop_table(name: str) -> None:
    """Drop a table with its indexes, unless an earlier try has."""
    if context.is_offline_mode() or sa.inspect(op.get_bind()).has_table(name):
        op.drop_table(name)


def create_index(name: str, table: str, columns: list[str], **options: Any) -> None:
    """Make an index, unless an earlier try has."""
    if not _has_index(table, name):
        op.create_index(name, table, columns, **options)


def drop_index(name: str, table: str) -> None:
    """Drop an index, unless an earlier try has."""
    if context.is_offline_mode() or _has_index(table, name):
        op.drop_index(name, table)


def _has(table: str, name: str) -> bool:
    """Whether the column is there; a script for people is written as if none were."""
    if context.is_offline_mode():
        return False
    return any(column["name"] == name for column in sa.inspect(op.get_bind()).get_columns(table))


def _has_index(table: str, name: str) -> bool:
    """As `_has`. Not Alembic's `if_not_exists`, whose SQL MySQL does not know."""
    return not context.is_offline_mode() and sa.inspect(op.get_bind()).has_index(table, name)
