"""Our tables' revisions, and how a host application's own Alembic leaves our tables alone (R50, R160).

In the host's `env.py`:

    from celery_cascade.migrations import include_object

    context.configure(..., include_object=include_object)

Without it the host's `alembic revision --autogenerate` finds tables that its models do not know, and writes code that
drops them. A host that keeps our tables in a schema of their own (`cascade_schema`) needs it only with
`include_schemas=True`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_cascade.persistence.schema import OUR_TABLES


def include_object(obj: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Whether something that Alembic compares is the host's business: False for our tables.

    Ours are those of our own models, and whatever else in the database bears one of our names and is in none of the
    host's models. A table of the host's that happens to be called like one of ours, in another schema, stays its own.
    """
    if type_ != "table" or name not in OUR_TABLES:
        return True
    if reflected:
        return compare_to is not None and not _is_ours(compare_to)
    return not _is_ours(obj)


def _is_ours(table: Any) -> bool:
    return bool(table.metadata.info.get("celery_cascade"))


def only_ours(dialect: str) -> Callable[..., bool]:
    """What `alembic check` is to look at on a database of this dialect, for our own environment.

    Our tables (the host's are none of our business, R50), and of their indexes those that this database has:
    Alembic takes no note of `Index.ddl_if`, so such an index says in its `info`, too, which dialect it is for.
    """

    def looks_at(obj: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
        meant_for = getattr(obj, "info", {}).get("dialect", dialect)
        return table_of(obj, name, type_) in OUR_TABLES and meant_for == dialect

    return looks_at


def table_of(obj: Any, name: str | None, type_: str) -> str | None:
    """The name of the table that something in the database belongs to."""
    return name if type_ == "table" else getattr(getattr(obj, "table", None), "name", None)
