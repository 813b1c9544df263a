"""Alembic's environment: on the connection that `persistence.migrate` hands over, or by the URL of the environment
for the plain `alembic` command in a checkout (R156).
"""

from __future__ import annotations

import os
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, text

from celery_cascade.config import SCHEMA_VARIABLE, URL_VARIABLE
from celery_cascade.errors import CascadeError
from celery_cascade.migrations import only_ours
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.database_dialects import quoted
from celery_cascade.persistence.models import Base
from celery_cascade.persistence.schema import VERSION_TABLE


def migrate(schema: str | None, dialect: str, **options: Any) -> None:
    attributes = context.config.attributes
    context.configure(
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        include_object=only_ours(dialect),
        on_version_apply=attributes.get("on_version_apply"),
        **options,
    )
    with context.begin_transaction():
        if schema is not None:
            make_schema(schema)
        context.run_migrations()


def make_schema(schema: str) -> None:
    """Make our schema where it is missing. A role that may not make schemas can use one that is there."""
    made = f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}"
    if context.is_offline_mode():
        context.execute(made)
        context.execute(f"SET search_path TO {quoted(schema)}")
        return
    known = text("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :name")
    only_looks = context.get_context().opts.get("dont_mutate")
    if not only_looks and not context.get_bind().execute(known, {"name": schema}).first():
        context.execute(made)


def from_environment() -> Database:
    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise CommandError(f"say which database: {URL_VARIABLE}=postgresql://… alembic …")
    try:
        return Database(url, schema=os.environ.get(SCHEMA_VARIABLE) or None, null_pool=True)
    except CascadeError as error:
        raise CommandError(str(error)) from error


def on_connection(connection: Connection, schema: str | None) -> None:
    migrate(schema, connection.dialect.name, connection=connection)


given = context.config.attributes
if given.get("connection") is not None:
    on_connection(given["connection"], given["schema"])
elif context.is_offline_mode() and given.get("dialect"):
    migrate(given["schema"], given["dialect"], dialect_name=given["dialect"], literal_binds=True)
elif context.is_offline_mode():
    database = from_environment()
    migrate(database.schema, database.family, dialect_name=database.family, literal_binds=True)
else:
    database = from_environment()
    database.transaction(lambda connection: on_connection(connection, database.schema))
