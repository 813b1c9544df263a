"""Column types without a server; tests/contract/test_dialects.py has them on each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import StatementError

from celery_cascade.persistence import types
from celery_cascade.persistence.database import Database

moments = sa.Table("moments", sa.MetaData(), sa.Column("at", types.UtcDateTime()))


def test_naive_datetime_is_refused():
    database = Database("sqlite://")
    with database.autocommit() as connection:
        moments.create(connection)
    with pytest.raises(StatementError, match="has no time zone") as caught, database.autocommit() as connection:
        connection.execute(moments.insert().values(at=datetime(2026, 1, 1)))
    assert "datetime.now(timezone.utc)" in str(caught.value)
    database.dispose()


def test_moment_of_another_zone_comes_back_as_the_same_moment_in_utc():
    database = Database("sqlite://")
    said = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with database.autocommit() as connection:
        moments.create(connection)
        connection.execute(moments.insert().values(at=said))
        found = connection.execute(sa.select(moments.c.at)).scalar_one()
        raw = connection.exec_driver_sql("SELECT at FROM moments").scalar_one()
    assert found == said
    assert found.tzinfo is UTC
    assert raw == "2026-01-01 06:30:00.000000"
    database.dispose()
