"""SQLAlchemy sessions on the store, for people who work with the ORM classes (D5)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import orm
from sqlalchemy.orm.exc import StaleDataError

from celery_cascade.config import HOME_VARIABLE, SCHEMA_VARIABLE, URL_VARIABLE
from celery_cascade.errors import ConfigError, StaleState
from celery_cascade.persistence import migrate
from celery_cascade.persistence.database import Database


class StoreSession(orm.Session):
    """SQLAlchemy's session; a stale write of a head is a StaleState here, as everywhere else in this package."""

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """As SQLAlchemy's.

        Raises:
            StaleState: a row was changed by somebody else since it was read; roll back, read it again and repeat.
        """
        try:
            super().flush(objects)
        except StaleDataError as error:
            raise StaleState(
                f"the session was changed by somebody else since it was read; nothing was written ({error})",
                hint="Roll back, read it again and repeat; celery_cascade.retry_stale(work) repeats a function",
            ) from error


def db_session(database: Database) -> StoreSession:
    """A new SQLAlchemy session on this store. Close it, or use it in a `with` block."""
    return StoreSession(database.engine)


def get_db_session(url: str | None = None, *, schema: str | None = None) -> StoreSession:
    """A new SQLAlchemy session on a store, without a Celery app. Close it, or use it in a `with` block.

    On SQLite its first statement takes the write lock, a SELECT too: commit or close it soon.

    Args:
        url: SQLAlchemy URL of the store; None = `CELERY_CASCADE_DATABASE_URL`, else the embedded store in
            `CELERY_CASCADE_HOME`. With an app: `cascades.db_session()`, which knows its settings.
        schema: as `cascade_schema`; None = `CELERY_CASCADE_SCHEMA`, else none.

    Raises:
        ConfigError: nothing says where the store is.
        SchemaOutOfDate: its tables are not those that this version needs.
        StoreUnavailable: it does not answer.
    """
    return db_session(_opened(url or _url_of_environment(), schema or os.environ.get(SCHEMA_VARIABLE) or None))


def _url_of_environment() -> str:
    if os.environ.get(URL_VARIABLE):
        return os.environ[URL_VARIABLE]
    if os.environ.get(HOME_VARIABLE):
        return f"sqlite:///{Path(os.environ[HOME_VARIABLE]) / 'store.sqlite'}"
    raise ConfigError(
        f"nothing says where the store is: neither {URL_VARIABLE} nor {HOME_VARIABLE} is set",
        hint="Set one of them, pass a URL, or ask the app's own: cascades.db_session()",
    )


@lru_cache
def _opened(url: str, schema: str | None) -> Database:
    database = Database(url, schema=schema, null_pool=True)  # a script leaves no connection behind
    migrate.check(database)
    return database
