"""Our tables' revisions, and how a host application's own Alembic leaves our tables alone (R50, R160).

In the host's `env.py`:

    from celery_cascade.migrations import include_object

    context.configure(..., include_object=include_object)

Without it the host's `alembic revision --autogenerate` finds tables that its models do not know, and writes code that
drops them.
"""

from __future__ import annotations

from typing import Any

from celery_cascade.persistence.schema import OUR_TABLES


def include_object(obj: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Whether something in the database is the host's: False for our tables and what belongs to them."""
    table = name if type_ == "table" else getattr(getattr(obj, "table", None), "name", None)
    return table not in OUR_TABLES
