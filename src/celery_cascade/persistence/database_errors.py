"""Drivers' errors by what is to be done about them: try again, say that the store is away, or pass them on."""

from __future__ import annotations

import re
import sqlite3
from enum import Enum, auto
from typing import Any

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from celery_cascade.errors import CascadeError
from celery_cascade.persistence import database_words as words
from celery_cascade.persistence.schema import OUR_TABLES

_PG_BUSY = ("40001", "40P01", "55P03")  # serialisation, deadlock, lock_timeout
_PG_LOST = ("08", "57P", "53300", "25006")  # connection, shutdown, too many clients, a standby
_MYSQL_BUSY = (1205, 1213, 3572)  # lock wait, deadlock, NOWAIT
_MYSQL_LOST = (1040, 1053, 1153, 1290, 1836, 1927, 2002, 2003, 2006, 2013, 2055, 4031)
_SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SQLITE_AWAY = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
)
_SQLITE_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_DENIED = ("42501", 1142, 1143)
_FULL = ("53100", 1021, 1114)
_NO_TABLE = ("42P01", 1146)
_SQLITE_MOVED = sqlite3.SQLITE_READONLY_DBMOVED  # another file stands there now: a new connection helps
_NO_COLUMN = ("42703", 1054)
_OUR_TABLES = re.compile(rf"\b({'|'.join(sorted(OUR_TABLES))})\b")


class Trouble(Enum):
    """What an error means for the transaction that met it."""

    BUSY = auto()  #: another transaction was in the way; the whole of it can be tried again
    LOST = auto()  #: the connection is gone, the server may still be there
    AWAY = auto()  #: the store cannot be used now; a new connection would not help
    CORRUPT = auto()  #: the file is damaged
    FULL = auto()  #: there is no room left
    DENIED = auto()  #: the user may not touch our tables
    NO_TEXT = auto()  #: a stored text is not one
    NO_TABLE = auto()  #: one of our tables is missing, or a column of it
    OTHER = auto()  #: the statement's own fault, a constraint among others


def trouble(error: BaseException) -> Trouble:
    """What an error means."""
    if isinstance(error, PoolTimeout):
        return Trouble.AWAY
    if not isinstance(error, DBAPIError):
        return Trouble.OTHER
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_trouble(error, error.orig)
    code = _code(error.orig)
    if code in _PG_BUSY or code in _MYSQL_BUSY:
        return Trouble.BUSY
    if error.connection_invalidated or code in _MYSQL_LOST or (isinstance(code, str) and code.startswith(_PG_LOST)):
        return Trouble.LOST
    if code in _FULL:
        return Trouble.FULL
    if code in _DENIED and _is_about_ours(error.orig):
        return Trouble.DENIED
    if (code in _NO_TABLE and _is_about_ours(error.orig)) or (code in _NO_COLUMN and _is_about_ours(error.statement)):
        return Trouble.NO_TABLE
    return Trouble.OTHER


def translated(error: BaseException, url: URL, *, connecting: bool = False) -> CascadeError | None:
    """Our error for one of the driver's; None for those that callers are to see as they are.

    Args:
        error: what the driver raised, as SQLAlchemy wrapped it.
        url: of the store, for the message.
        connecting: there was no connection yet, so that a wrong password or an unknown host is meant too.
    """
    kind = trouble(error)
    said = _said(error)
    if kind is Trouble.CORRUPT:
        return words.damaged(url, said)
    if kind is Trouble.NO_TABLE:
        return words.no_table(url, said)
    if kind is Trouble.NO_TEXT:
        return words.no_text(url, said)
    if kind is Trouble.BUSY:
        return words.locked(url, said)
    if kind is Trouble.DENIED:
        return words.denied(url, said)
    if kind is Trouble.FULL:
        return words.full(url, said)
    orig = getattr(error, "orig", None)
    if kind is Trouble.AWAY and isinstance(orig, sqlite3.Error):
        return words.file_away(url, said, _sqlite_code(orig))
    if kind in (Trouble.LOST, Trouble.AWAY) or (connecting and isinstance(error, OperationalError)):
        return words.away(url, said, code=_code(orig), connecting=connecting)
    return None


def is_database_error(error: BaseException) -> bool:
    """Whether the connection told it in good order, and so can be used on."""
    return isinstance(error, (SQLAlchemyError, CascadeError))


def _is_about_ours(said: Any) -> bool:
    """Whether one of our tables is named; a user's callback may miss a table of its own."""
    return bool(_OUR_TABLES.search(str(said)))


def _sqlite_trouble(error: DBAPIError, orig: sqlite3.Error) -> Trouble:
    code = _sqlite_code(orig)
    if getattr(orig, "sqlite_errorcode", 0) == _SQLITE_MOVED:
        return Trouble.LOST
    if code in _SQLITE_BUSY:
        return Trouble.BUSY
    if code in _SQLITE_AWAY:
        return Trouble.AWAY
    if code in _SQLITE_CORRUPT:
        return Trouble.CORRUPT
    said = str(orig)
    if said.startswith("Could not decode to UTF-8"):
        return Trouble.NO_TEXT
    if ("no such table" in said and _is_about_ours(said)) or (
        ("no such column" in said or "has no column" in said) and _is_about_ours(error.statement)
    ):
        return Trouble.NO_TABLE
    return Trouble.OTHER


def _sqlite_code(orig: sqlite3.Error) -> int:
    return int(getattr(orig, "sqlite_errorcode", 0)) & 0xFF  # the low byte; the rest says more


def _code(error: Any) -> str | int | None:
    """Number of MySQL, SQLSTATE of PostgreSQL. The number first: 1205 and many others share one SQLSTATE."""
    number = error.args[0] if getattr(error, "args", None) else None
    if isinstance(number, int):
        return number
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return str(state) if state else None


def _said(error: BaseException) -> str:
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
