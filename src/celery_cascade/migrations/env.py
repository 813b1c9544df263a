"""Alembic's environment: on the connection that `persistence.migrate` hands over, or by the URL of the environment
for the plain `alembic` command in a checkout (R156).
"""

from __future__ import annotations

import os
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection

from celery_cascade.config import URL_VARIABLE
from celery_cascade.migrations import include_object
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Base
from celery_cascade.persistence.schema import VERSION_TABLE


def only_ours(obj: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Whether `alembic check` is to look at it: the host's tables are none of our business (R50)."""
    return not include_object(obj, name, type_, reflected, compare_to)


def migrate(**options: Any) -> None:
    attributes = context.config.attributes
    context.configure(
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        include_object=only_ours,
        on_version_apply=attributes.get("on_version_apply"),
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()


def from_environment() -> Database:
    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise CommandError(f"say which database: {URL_VARIABLE}=postgresql://… alembic …")
    return Database(url, null_pool=True)


def on_connection(connection: Connection) -> None:
    migrate(connection=connection)


connection = context.config.attributes.get("connection")
if context.is_offline_mode():
    dialect = context.config.attributes.get("dialect") or from_environment().family
    migrate(dialect_name=dialect, literal_binds=True)
elif connection is not None:
    on_connection(connection)
else:
    from_environment().transaction(on_connection)
