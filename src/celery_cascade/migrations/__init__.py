"""Our tables' revisions, and how a host application's own Alembic leaves our tables alone (R50, R160).

In the host's `env.py`:

    from celery_cascade.migrations import include_object

    context.configure(..., include_object=include_object)

Without it the host's `alembic revision --autogenerate` finds tables that its models do not know, and writes code that
drops them. A host that keeps our tables in a schema of their own (`cascade_schema`) needs it only with
`include_schemas=True`.
"""

from __future__ import annotations

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


def table_of(obj: Any, name: str | None, type_: str) -> str | None:
    """The name of the table that something in the database belongs to."""
    return name if type_ == "table" else getattr(getattr(obj, "table", None), "name", None)
