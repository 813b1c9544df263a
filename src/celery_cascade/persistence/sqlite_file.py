"""The file of an SQLite store, looked at from outside: is it sound, can it be used, who has it open.

A damaged file is never opened for writing (D4): this module opens read-only or not at all.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL

#: Bytes up to which a file is read through when a process first opens it: a tenth of a second (570 MB/s measured).
#: Damage in a larger one is noticed by whoever meets it, and by `doctor`.
LOOKED_THROUGH = 64 * 1024 * 1024

_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SHARED_BY_ALL = 128  # the byte of the -shm file on which every open connection holds a lock (SQLite's "DMS")
_MOST_FINDINGS = 10


def path_of(url: URL) -> Path | None:
    """The file that an SQLite URL names; None for a server, for memory and for `file:` URIs."""
    name = url.database
    if url.get_backend_name() != "sqlite" or name in (None, "", ":memory:") or str(name).startswith("file:"):
        return None
    return Path(str(name)).resolve()  # SQLite keeps -wal and -shm beside the file, not beside a link to it


def identity(path: Path) -> tuple[int, int] | None:
    """Which file stands at the path now; another one after it was moved aside or restored."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, whatever it is told."""
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=5.0, isolation_level=None)


def damage(path: Path, *, largest: int | None = None) -> list[str]:
    """What SQLite finds wrong with the file; empty if nothing, or if it cannot be looked at.

    Args:
        path: of the file.
        largest: bytes; a larger file is taken for sound unread. None = read whatever its size.
    """
    try:
        size = path.stat().st_size
    except OSError:
        return []
    if size == 0 or (largest is not None and size > largest):
        return []
    try:
        with closing(read_only(path)) as connection:
            found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({_MOST_FINDINGS})")]
    except sqlite3.DatabaseError as error:
        return [str(error)] if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT else []
    lines = [line.strip() for words in found for line in words.splitlines()]
    return [line for line in lines if line != "ok" and not line.startswith("*** in database")]


def why_not_opened(path: Path) -> str:
    """What stands in the way of opening the file, in words; empty if nothing of it is seen from here."""
    if path.is_dir():
        return "it is a folder, not a file"
    folder = path.parent
    if not folder.exists():
        return f"its folder {folder} is gone; a restart makes it anew"
    if not _may(folder, os.X_OK):
        return f"this user may not enter the folder {folder}"
    if path.exists() and not _may(path, os.R_OK):
        return "this user may not read it"
    if path.exists() and not _may(path, os.W_OK):
        return "this user may not write it"
    if not _may(folder, os.W_OK):
        return f"this user may not write in the folder {folder}"
    return ""


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def holders(path: Path) -> str:
    """Who has the store open, in words; empty if nobody. Call it without a connection of one's own."""
    shared = path.with_name(path.name + "-shm")
    try:
        import fcntl

        with shared.open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _SHARED_BY_ALL)
            except OSError:
                pids = _pids(file.fileno())
                return f"pid {', '.join(pids)}" if pids else "another process"
    except (ImportError, OSError):  # no such file: nobody has it open; no fcntl: it cannot be told
        return ""
    return ""


def _pids(descriptor: int) -> list[str]:
    """The processes that hold a lock on the file, as Linux tells them."""
    inode = str(os.fstat(descriptor).st_ino)
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return sorted({row[4] for row in rows if len(row) > 5 and row[5].rpartition(":")[2] == inode and row[4] != "-1"})
