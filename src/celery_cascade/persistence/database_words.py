"""What people are told when the store cannot be used: which store, why, and the next step (R122, R150)."""

from __future__ import annotations

import getpass
import re
import sqlite3

from sqlalchemy import URL

from celery_cascade.errors import CascadeError, SchemaOutOfDate, StoreDamaged, StoreError, StoreUnavailable
from celery_cascade.persistence.database_dialects import shown
from celery_cascade.persistence.sqlite_file import path_of, why_not_opened

DOCTOR = "Find out more with: cascade doctor"
MIGRATE = "Run: celery -A <app> cascade migrate up"
_SETTING = "cascade_database_url (or CELERY_CASCADE_DATABASE_URL)"
_ELSEWHERE = "or keep the store elsewhere: set cascade_database_url, cascade_home or CELERY_CASCADE_HOME"

_NO_DATABASE = 1049
_REFUSED = (1044, 1045, 1698, 28000)
_READ_ONLY = (1290, 1836, "25006")
# PostgreSQL gives no SQLSTATE for a connection that it refuses; its words may be in another language, and then the
# general message does.
_PG_NO_DATABASE = re.compile(r'FATAL: +(database ".*" does not exist)')
_PG_REFUSED = re.compile(r"FATAL: +(.*(?:authentication failed|role \".*\" does not exist|no pg_hba\.conf entry).*)")


def damaged(url: URL, said: str) -> StoreDamaged:
    """The file is damaged."""
    return StoreDamaged(f"the store {shown(url)} is damaged: {said}", hint="Run: cascade doctor --fix")


def no_table(url: URL, said: str) -> SchemaOutOfDate:
    """A table or column of ours is missing under a revision that says otherwise."""
    return SchemaOutOfDate(f"the store {shown(url)} lacks a table or column of ours: {said}", hint=MIGRATE)


def no_text(url: URL, said: str) -> StoreError:
    """A text column holds bytes that are none."""
    return StoreError(f"the store {shown(url)}: a stored value cannot be read: {said:.120}", hint=DOCTOR)


def locked(url: URL, said: str) -> StoreUnavailable:
    """Others were in the way for too long."""
    return StoreUnavailable(
        f"the store {shown(url)} stayed locked by others: {said}", hint="Find who holds it with: cascade doctor"
    )


def denied(url: URL, said: str) -> StoreUnavailable:
    """The server lets this user in, but not at our tables."""
    return StoreUnavailable(
        f"the store {shown(url)} does not let this user at its tables: {said}",
        hint="Grant SELECT, INSERT, UPDATE and DELETE on them; migrations need CREATE as well",
        lasting=True,
    )


def full(url: URL, said: str) -> StoreUnavailable:
    """There is no room left."""
    path = path_of(url)
    where = f"on the disk of {path.parent}" if path is not None else "on the database server's disk"
    return StoreUnavailable(
        f"the store {shown(url)} cannot grow: {said}",
        hint=f"Make room {where}; finished steps wait until they can be written, nothing is lost",
        lasting=True,
    )


def away(url: URL, said: str, *, code: str | int | None, connecting: bool) -> CascadeError:
    """The store does not answer, or not to us."""
    name = url.database
    missing = _PG_NO_DATABASE.search(said) if connecting else None
    if (connecting and code == _NO_DATABASE) or missing:
        return SchemaOutOfDate(
            f"the store {shown(url)} is not there: the server has no database {name!r}",
            hint=f"Create it, with: CREATE DATABASE {name}\n{MIGRATE}",
        )
    if code in _REFUSED or (connecting and _PG_REFUSED.search(said)):
        return StoreUnavailable(
            f"the store {shown(url)} does not let this user in: {said}",
            hint=f"Look at user and password in {_SETTING}",
            lasting=True,
        )
    if code in _READ_ONLY:
        return StoreUnavailable(
            f"the store {shown(url)} is read-only: {said}",
            hint=f"Is it a standby? Point {_SETTING} at the server that takes writes",
        )
    return StoreUnavailable(
        f"the store {shown(url)} does not answer: {said}",
        hint=f"Is it running, and is {_SETTING} where it is?\n{DOCTOR}",
    )


def file_away(url: URL, said: str, code: int) -> StoreUnavailable:
    """An SQLite file that cannot be opened, read or written: names the path (R122)."""
    path = path_of(url)
    if code == sqlite3.SQLITE_FULL:
        return full(url, said)
    if path is None or code == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(
            f"the store {shown(url)} cannot be read or written: {said}",
            hint=f"Look at the disk of {path.parent if path else 'this machine'} (dmesg, df)\n{DOCTOR}",
        )
    if path.is_dir():
        return StoreUnavailable(
            f"the store's file {path} cannot be opened: it is a folder, not a file",
            hint=f"Move that folder away, {_ELSEWHERE}",
            lasting=True,
        )
    verb = "written" if code == sqlite3.SQLITE_READONLY else "opened"
    return StoreUnavailable(
        f"the store's file {path} cannot be {verb}: {why_not_opened(path) or said}",
        hint=f"Give user {_user()} the right to read and write {path} and its folder,\n{_ELSEWHERE}",
        lasting=True,
    )


def no_folder(url: URL, error: OSError) -> StoreUnavailable:
    """The folder of the file cannot be made (R92, R122)."""
    path = path_of(url)
    return StoreUnavailable(
        f"the folder {path.parent if path else '?'} of the store cannot be made: {error.strerror}",
        hint=f"Give user {_user()} the right to write there,\n{_ELSEWHERE}",
        lasting=True,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "of this process"
