"""Database time in statements, so that moments of different machines are never compared.

Every statement that needs the time takes a parameter `clock`: None in production (the database's own
clock is read), a moment in tests.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, bindparam, extract, func, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from celery_cascade.persistence.types import UtcDateTime

_SQLITE_FORMAT = "'%Y-%m-%d %H:%M:%f000'"


class _Now(FunctionElement[Any]):
    inherit_cache = True
    name = "cascade_now"
    type = UtcDateTime()


class _After(FunctionElement[Any]):
    inherit_cache = True
    name = "cascade_after"
    type = UtcDateTime()


def now() -> ColumnElement[Any]:
    """The moment of the statement."""
    return _Now(bindparam("clock", type_=UtcDateTime()))


def after(seconds: Any) -> ColumnElement[Any]:
    """The moment of the statement plus `seconds`: a number, a bind parameter or an expression; may be negative."""
    return _After(bindparam("clock", type_=UtcDateTime()), _seconds(seconds))


def seconds_between(family: str, begin: Any, end: Any) -> ColumnElement[Any]:
    """Seconds from one moment to another, on each kind of database."""
    if family == "postgresql":
        return extract("epoch", end - begin).cast(Float)
    if family == "sqlite":
        return (func.julianday(end) - func.julianday(begin)) * 86400.0
    return func.timestampdiff(text("MICROSECOND"), begin, end) / 1000000.0


def _seconds(value: Any) -> ColumnElement[Any]:
    if isinstance(value, str):
        return bindparam(value, type_=Float())
    return value  # type: ignore[no-any-return]


def _parts(element: FunctionElement[Any], compiler: Any, **kw: Any) -> list[str]:
    return [compiler.process(clause, **kw) for clause in element.clauses]


@compiles(_Now, "postgresql")
def _pg_now(element: Any, compiler: Any, **kw: Any) -> str:
    # Not clock_timestamp(): it is volatile, and no index serves a comparison with a volatile value.
    (clock,) = _parts(element, compiler, **kw)
    return f"coalesce(CAST({clock} AS TIMESTAMPTZ), statement_timestamp())"


@compiles(_After, "postgresql")
def _pg_after(element: Any, compiler: Any, **kw: Any) -> str:
    clock, seconds = _parts(element, compiler, **kw)
    return (
        f"(coalesce(CAST({clock} AS TIMESTAMPTZ), statement_timestamp())"
        f" + make_interval(secs => CAST({seconds} AS DOUBLE PRECISION)))"
    )


@compiles(_Now, "mysql", "mariadb")
def _mysql_now(element: Any, compiler: Any, **kw: Any) -> str:
    (clock,) = _parts(element, compiler, **kw)
    return f"coalesce(CAST({clock} AS DATETIME(6)), utc_timestamp(6))"


@compiles(_After, "mysql", "mariadb")
def _mysql_after(element: Any, compiler: Any, **kw: Any) -> str:
    clock, seconds = _parts(element, compiler, **kw)
    moment = f"coalesce(CAST({clock} AS DATETIME(6)), utc_timestamp(6))"
    return f"date_add({moment}, INTERVAL CAST(({seconds}) * 1000000 AS SIGNED) MICROSECOND)"


@compiles(_Now, "sqlite")
def _sqlite_now(element: Any, compiler: Any, **kw: Any) -> str:
    (clock,) = _parts(element, compiler, **kw)
    return f"strftime({_SQLITE_FORMAT}, coalesce({clock}, 'now'))"


@compiles(_After, "sqlite")
def _sqlite_after(element: Any, compiler: Any, **kw: Any) -> str:
    clock, seconds = _parts(element, compiler, **kw)
    return f"strftime({_SQLITE_FORMAT}, coalesce({clock}, 'now'), ({seconds}) || ' seconds')"
