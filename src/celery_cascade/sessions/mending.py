"""`doctor --fix` for a damaged SQLite store: salvage what can be read, move the file aside, say what became of whom.

The order matters: the new file is complete before the old one gives way, and the old one is only ever renamed.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery_cascade.errors import CascadeError, NotResumable, SessionConflict, StoreUnavailable
from celery_cascade.persistence import migrate
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import WorkerRow
from celery_cascade.persistence.salvage import Salvaged, salvage
from celery_cascade.persistence.sqlite_file import holders, read_only
from celery_cascade.sessions.restoring import check_restorable
from celery_cascade.states import FINAL_STEP, Halt, StepStatus, SuspendReason
from celery_cascade.tasks import identity
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.settling import settle

logger = logging.getLogger("celery_cascade")

_BESIDE = ("-wal", "-shm")


@dataclass
class Mended:
    """What was done.

    Attributes:
        moved_to: where the damaged file is now.
        salvaged: rows by table.
        suspended: unfinished sessions that somebody has to decide about, with the reason.
    """

    moved_to: Path
    salvaged: Salvaged
    suspended: dict[str, str] = field(default_factory=dict)


def mend(runtime: Runtime, file: Path, progress: Callable[[str, int], None]) -> Mended:
    """Put a new store with the readable rows in the place of a damaged one.

    Raises:
        SessionConflict: somebody has the store open, or a worker of it is alive. Nothing was changed.
        StoreUnavailable: the new file cannot be written. Nothing was changed.
    """
    _refuse_if_used(runtime, file)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    fresh = file.with_name(f"{file.name}.salvaged-{stamp}")
    try:
        salvaged = _fill(fresh, file, progress)
        _refuse_if_used(runtime, file)  # who came while we read would go on writing to the file that is moved
        moved_to = _swap(file, fresh, file.with_name(f"{file.name}.corrupt-{stamp}"))
    except BaseException:
        for suffix in ("", *_BESIDE):
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
        raise
    mended = Mended(moved_to=moved_to, salvaged=salvaged)
    _settle_doubts(runtime, mended)
    return mended


def _fill(fresh: Path, file: Path, progress: Callable[[str, int], None]) -> Salvaged:
    database = Database(f"sqlite:///{fresh}", null_pool=True)
    try:
        migrate.upgrade(database)
        return salvage(file, fresh, progress)
    except (OSError, sqlite3.OperationalError) as error:
        raise StoreUnavailable(
            f"the new store {fresh} cannot be written: {error}",
            hint=f"Nothing was changed. Make room in {fresh.parent}, then again: cascade doctor --fix",
        ) from error
    finally:
        database.dispose()


def _swap(file: Path, fresh: Path, aside: Path) -> Path:
    number = 1
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{aside.name.rpartition('Z')[0]}Z-{number}")
    # Killed anywhere between two lines, the whole original is there under one of the names.
    for suffix in ("", *_BESIDE):
        part = file.with_name(file.name + suffix)
        if part.exists():
            _also_as(part, aside.with_name(aside.name + suffix))
    for suffix in _BESIDE:
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    os.replace(fresh, file)
    return aside


def _also_as(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:  # a file system without links
        shutil.copy2(file, name)


def _refuse_if_used(runtime: Runtime, file: Path) -> None:
    who = holders(file) or ", ".join(_alive(runtime, file))
    if who:
        raise SessionConflict(
            f"the store {file} is in use by {who}; it cannot be moved aside under them",
            hint="Stop the workers and programs that use it, then again: cascade doctor --fix",
        )


_WORKERS = (
    "SELECT id, nodename, host, pid, boot_id, pid_namespace, process_started, pool,"
    " (julianday('now') - julianday(heartbeat_at)) * 86400.0 FROM cascade_workers WHERE stopped_at IS NULL"
)


def _alive(runtime: Runtime, file: Path) -> list[str]:
    """Workers that were heard of lately, as far as the damaged file still says."""
    found: list[str] = []
    with suppress(sqlite3.DatabaseError), closing(read_only(file)) as old:
        for values in old.execute(_WORKERS):
            row = WorkerRow(
                id=values[0], nodename=values[1], host=values[2], pid=values[3], boot_id=values[4],
                pid_namespace=values[5], process_started=values[6], pool=values[7], silent_for=values[8] or 0.0,
            )  # fmt: skip
            if row.silent_for <= runtime.config.heartbeat_timeout and not identity.gone_for_certain(row):
                found.append(f"worker {row.nodename} (pid {row.pid})")
    return found


def _settle_doubts(runtime: Runtime, mended: Mended) -> None:
    """Sessions that would hang, or end without what they had done, wait for an operator instead."""
    for session_id, digest in runtime.store.headless():
        try:
            _new_head(runtime, session_id, digest)
            mended.suspended[session_id] = "its head was lost"
        except CascadeError as error:
            logger.warning("session %s: no head could be made for it: %s", session_id, error.message)
    for session_id in runtime.store.unfinished():
        why = "rows of it may be out of date" if mended.salvaged.by_shape else _doubt(runtime, session_id)
        if why is not None:
            mended.suspended[session_id] = why
            runtime.store.halt(session_id, Halt.SUSPENDED, SuspendReason.IN_DOUBT.value)
            settle(runtime, session_id)


def _doubt(runtime: Runtime, session_id: str) -> str | None:
    """Why a session cannot go on by itself. Nobody moves it while we look: its workers are gone."""
    row: dict[str, Any] = {**runtime.store.session(session_id), "status": "suspended"}
    try:
        check_restorable(runtime, row)
    except NotResumable as error:
        return error.message
    return None


def _new_head(runtime: Runtime, session_id: str, digest: str) -> None:
    plan = runtime.plan(digest)
    statuses = [step["status"] for step in runtime.store.steps(session_id)]
    runtime.store.add_head(
        session_id,
        total=len(plan.steps),
        closed=sum(status in FINAL_STEP for status in statuses),
        done=sum(status == StepStatus.SUCCEEDED for status in statuses),
    )
