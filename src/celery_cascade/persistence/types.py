"""Column types that mean the same on SQLite, PostgreSQL, MySQL and MariaDB (DESIGN.md section 5)."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, String, Text, type_coerce
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from celery_cascade.persistence import codec

logger = logging.getLogger("celery_cascade")

MYSQL_FAMILY = ("mysql", "mariadb")  # both names: a `mariadb+…` URL has a dialect of its own

#: Text of any length; MySQL's TEXT would end at 64 KB.
LongText: TypeEngine[str] = Text().with_variant(mysql.LONGTEXT(collation="utf8mb4_bin"), *MYSQL_FAMILY)


def Identifier(length: int) -> TypeEngine[str]:  # noqa: N802 - stands where a type stands
    """Ids and names. Compared byte by byte: MySQL's own collations hold 'Charge' and 'charge' for the same."""
    return String(length).with_variant(mysql.VARCHAR(length, collation="utf8mb4_bin"), *MYSQL_FAMILY)


class _SqliteMoment(sqlite.DATETIME):
    """SQLite keeps moments as text, so a damaged one can be anything: shown as missing, it hides no other row."""

    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: Any) -> Any:
        parse: Any = super().result_processor(dialect, coltype)

        def read(value: Any) -> Any:
            try:
                return parse(value)
            except (ValueError, TypeError):
                logger.warning("a stored moment cannot be read, and is taken for none: %.50r", value)
                return None

        return read


class UtcDateTime(TypeDecorator[datetime]):
    """A moment. Aware in and aware UTC out, with microseconds, whatever the server's or the session's time zone."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in MYSQL_FAMILY:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_SqliteMoment())  # type: ignore[no-untyped-call]
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(
                f"{value!r} has no time zone, so nobody can say which moment it is; use datetime.now(timezone.utc)"
            )
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: Any) -> Any:
        """A time that is none (R119: SQLite takes any text, MySQL zero dates) reads as None and hides no other row."""
        process = super().result_processor(dialect, coltype)
        if dialect.name == "postgresql" or process is None:
            return process

        def read(value: Any) -> datetime | None:
            try:
                return process(value)
            except (ValueError, TypeError, AttributeError):
                return None

        return read


class StoredMoment(TypeDecorator[Any]):
    """A moment as the driver gives it and takes it back: to stand at, never to be understood.

    A text or number that is no moment (R119) would raise if it were read.
    """

    impl = DateTime
    cache_ok = True

    @staticmethod
    def of(column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The column, read so."""
        return type_coerce(column, StoredMoment())

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String())
        return UtcDateTime().load_dialect_impl(dialect)


class Json(TypeDecorator[Any]):
    """A value through our codec; None is NULL. On MySQL it is text: its JSON type rewrites numbers and key order."""

    impl = JSON
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(none_as_null=True)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in MYSQL_FAMILY:
            return dialect.type_descriptor(mysql.LONGTEXT(collation="utf8mb4_bin"))
        return dialect.type_descriptor(JSON(none_as_null=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        if dialect.name in MYSQL_FAMILY:
            return codec.encode(value, what="value")
        return codec.to_plain(value, what="value")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        return codec.decode(value) if dialect.name in MYSQL_FAMILY else codec.from_plain(value)

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self.impl_instance.coerce_compared_value(op, value)


class PlainJson(Json):
    """The same columns, read and written as they are stored: what the codec has tagged stays tagged."""

    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or dialect.name not in MYSQL_FAMILY:
            return value
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return json.loads(value) if value is not None and dialect.name in MYSQL_FAMILY else value


class _UtcNow(ColumnElement[datetime]):
    """The database's time as a column default."""

    inherit_cache = True
    type = UtcDateTime()


def utc_now_default() -> ColumnElement[datetime]:
    """A server default: the moment of the INSERT by the database's clock, for raw SQL too (R33)."""
    return _UtcNow()


class _StatementTime(_UtcNow):
    """The database's time in an UPDATE: PostgreSQL's now() would stand still for a whole transaction."""

    inherit_cache = True


def statement_time() -> ColumnElement[datetime]:
    """The moment of the statement by the database's clock, as `onupdate` of a column."""
    return _StatementTime()


@compiles(_StatementTime)
def _statement_time_postgresql(_element: _StatementTime, _compiler: Any, **_kw: Any) -> str:
    return "clock_timestamp()"


@compiles(_UtcNow)
def _utc_now_postgresql(_element: _UtcNow, _compiler: Any, **_kw: Any) -> str:
    return "now()"


@compiles(_StatementTime, *MYSQL_FAMILY)
@compiles(_UtcNow, *MYSQL_FAMILY)
def _utc_now_mysql(_element: _UtcNow, _compiler: Any, **_kw: Any) -> str:
    return "(utc_timestamp(6))"


@compiles(_StatementTime, "sqlite")
@compiles(_UtcNow, "sqlite")
def _utc_now_sqlite(_element: _UtcNow, _compiler: Any, **_kw: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f000','now'))"
