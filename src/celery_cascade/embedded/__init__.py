"""A message broker without a server: SQLite in a file, for one machine. `app = Celery("proj", **embedded())`.

kombu's own SQLAlchemy transport, tuned: write-ahead log, a look every 0.1 s instead of every second, and nothing open
when the process forks. It never lost or doubled a message among many writers; what a SIGKILL makes it drop, recovery
sends again. The transport itself is in `transport.py`, loaded by kombu when a connection is made.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from kombu.transport import TRANSPORT_ALIASES

from celery_cascade.config import HOME_VARIABLE, CascadeConfig
from celery_cascade.errors import ConfigError, StoreUnavailable

SCHEME = "cascade-sqlite"
FOLDER = ".cascade"
FILE = "broker.sqlite"

#: Rows deleted in one transaction; a poll of the queue has to wait for so long.
BATCH = 1000

TRANSPORT_ALIASES[SCHEME] = "celery_cascade.embedded.transport:Transport"


def embedded(folder: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Settings for Celery that need no server: the broker, and the store beside it, in one folder.

    Args:
        folder: where; None = `CELERY_CASCADE_HOME`, else `.cascade` beside the calling module. It is made on first
            use. Not on a network file system: SQLite's log is shared memory of one machine.
    """
    caller = sys._getframe(1).f_code.co_filename
    home = _anchored(os.fspath(folder) if folder is not None else os.environ.get(HOME_VARIABLE), caller)
    return {
        "broker_url": f"{SCHEME}+sqlite:///{quote(str(home / FILE))}",
        "cascade_home": str(home),
        "task_ignore_result": True,  # there is no result backend, and none is needed
        "worker_enable_remote_control": False,  # it needs a broker that can say one thing to all workers
        "worker_prefetch_multiplier": 1,  # what is fetched ahead is what a SIGKILL drops
        "broker_connection_retry_on_startup": True,
    }


def home_of(app: Any, config: CascadeConfig, caller_file: str | None) -> Path:
    """The folder of the embedded store: the setting `cascade_home` or `CELERY_CASCADE_HOME`, else `.cascade` beside
    the module that made `Cascades(app)`. Never a matter of the working directory of the day, but in a shell.
    """
    if caller_file is None:
        module = sys.modules.get(str(app.main))
        caller_file = getattr(module, "__file__", None)
    return _anchored(config.home, caller_file)


def _anchored(folder: str | None, file: str | None) -> Path:
    beside = Path(file).resolve().parent if file and Path(file).is_file() else Path.cwd()
    return beside / Path(folder or FOLDER).expanduser()


def broker_file(app: Any) -> Path | None:
    """The file of the embedded broker; None if the app's broker is another."""
    for url in _broker_urls(app):
        scheme, _, rest = url.partition("+sqlite:///")
        if scheme == SCHEME:
            return Path(unquote(rest))
    return None


def refuse_unsafe_broker(app: Any) -> None:
    """Refuse a broker on which no promise can be kept.

    Raises:
        ConfigError: filesystem://. It delivers messages that are half written; the worker that reads one dies, and
            the message is gone (3 of 3 runs with several writers).
    """
    for url in _broker_urls(app):
        if url.partition(":")[0].partition("+")[0] == "filesystem":
            raise ConfigError(
                "the broker filesystem:// loses messages and takes workers down: it delivers half-written files",
                hint='Use Celery("proj", **embedded()) with `from celery_cascade.embedded import embedded`, which '
                "needs no server either, or Redis or RabbitMQ",
            )


def refuse_broken_broker(app: Any) -> None:
    """Refuse an embedded broker whose file is there, but cannot be used; one that is not there yet is made.

    Raises:
        StoreUnavailable: it is no file, not ours to read and write, or no SQLite database.
    """
    file = broker_file(app)
    if file is None or not file.exists():
        return
    if file.is_dir():
        problem = "it is a folder, not a file"
    elif not os.access(file, os.R_OK | os.W_OK):
        raise StoreUnavailable(
            f"the embedded broker's file {file} cannot be used: this user may not read and write it",
            hint=f"Give this user the right to read and write {file} and its folder",
            lasting=True,
        )
    else:
        problem = _unreadable(file)
    if problem:
        raise StoreUnavailable(
            f"the embedded broker's file {file} cannot be used: {problem}",
            hint="Stop the workers and move it away (its messages are sent again from the store):\n"
            f"mv {shlex.quote(str(file))} {shlex.quote(f'{file}.broken')}",
            lasting=True,
        )


def _unreadable(file: Path) -> str:
    """What SQLite says about a file that it cannot read; nothing of one that others hold just now."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=5.0)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        return "" if busy else str(error)
    return ""


def _broker_urls(app: Any) -> list[str]:
    found: list[str] = []
    for key in ("broker_url", "broker_read_url", "broker_write_url", "broker_transport"):
        value = app.conf.get(key)
        found += value.split(";") if isinstance(value, str) else value or ()
    return [str(url) for url in found]


def prune_spent(app: Any) -> int:
    """Delete what the embedded broker keeps of messages that were delivered; 0 if the broker is another.

    Without it the file grows by half a kilobyte a message and more. A delivered message is never read again: one that
    a worker gives back is written anew.
    """
    file = broker_file(app)
    if file is None or not file.is_file():
        return 0
    deleted = 0
    with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
        while True:
            try:
                count = connection.execute(
                    "DELETE FROM kombu_message WHERE id IN (SELECT id FROM kombu_message WHERE visible = 0 LIMIT ?)",
                    (BATCH,),
                ).rowcount
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # nothing was ever sent
                    return deleted
                raise
            deleted += count
            if count < BATCH:
                return deleted
