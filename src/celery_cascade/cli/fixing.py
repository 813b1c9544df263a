"""What `doctor --fix` does: whatever is safe, and nothing without saying so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from celery_cascade.cli.problems import as_called
from celery_cascade.cli.words import counted, say, size
from celery_cascade.errors import CascadeError, SchemaOutOfDate
from celery_cascade.persistence import migrate, sqlite_file
from celery_cascade.persistence.database import Database
from celery_cascade.sessions.mending import Mended, mend
from celery_cascade.sessions.prune import WORKERS_KEPT
from celery_cascade.tasks.runtime import Runtime

_SLOW = 100 * 1024 * 1024  # bytes from which a look at all of the file takes long enough to be told


def fix(runtime: Runtime) -> None:
    """Mend what can be mended without a loss; the checks afterwards tell what is left.

    Raises:
        SessionConflict: the store is damaged, and still in use.
        StoreUnavailable: there is no room for the salvaged rows.
    """
    database = runtime.open_database()
    try:
        done = [*_damage(runtime, database)]
        if not done:
            done = [*_tables(runtime, database), *_workers(runtime)]
    finally:
        database.dispose()
    if not done:
        say("There is nothing to fix from here.")


def _damage(runtime: Runtime, database: Database) -> list[str]:
    file = database.file
    if file is None or not file.is_file() or file.stat().st_size == 0:
        return []
    if file.stat().st_size > _SLOW:
        say(f"Looking through {file} ({size(file.stat().st_size)}) …")
    found = sqlite_file.damage(file)
    if not found:
        return []
    say(f"The store {file} is damaged: {found[0]}")
    mended = mend(runtime, file, lambda table, rows: say(f"{table}: {counted(rows, 'row')} so far …"))
    _tell(file, mended)
    return ["moved aside and salvaged"]


def _tell(file: Path, mended: Mended) -> None:
    say(f"Moved the damaged file to {mended.moved_to}; it was not changed, and nothing deletes it.")
    saved = mended.salvaged
    total = sum(rows for table, rows in saved.rows.items() if table != "cascade_meta")
    if total:
        say(f"Salvaged into the new store {file}: {counted(total, 'row')}.")
    else:
        say(f"Nothing could be saved from it: the new store {file} is empty.")
    for table, rows in saved.rows.items():
        lost = saved.refused.get(table, 0)
        if rows or lost or table in saved.damaged:
            notes = [f"{lost:,} read but not valid"] if lost else []
            notes += ["a part of it could not be read"] if table in saved.damaged else []
            say(f"  {table:<20} {rows:>9,}" + (f"  ({'; '.join(notes)})" if notes else ""))
    if saved.by_shape:
        say("The schema was lost: rows were recognised by their columns, and some may be out of date.")
    if saved.strangers:
        say(f"Tables of other programs stay in the old file: {', '.join(saved.strangers)}")
    for session, why in mended.suspended.items():
        say(f"Session {session} is suspended (in_doubt): {why}")
    if mended.suspended:
        say(as_called("Look at each of them, then: cascade resume ID, or: cascade cancel ID"))


def _tables(runtime: Runtime, database: Database) -> list[str]:
    """An embedded store is migrated, and made if it is not there; a server's database never is without a word."""
    done: list[str] = []
    existed = database.file is not None and database.file.exists()
    try:
        migrate.check(database)
    except SchemaOutOfDate:
        if not (runtime.embedded_store or runtime.config.auto_migrate):
            return []
        lost = migrate.missing(database) if migrate.current(database) is not None else []
        executed = _attempt(lambda: migrate.upgrade(database, by_itself=not lost))
        if executed:
            done.append(f"{'Migrated' if existed else 'Made'} the store {database.shown}: {', '.join(executed)}")
        elif executed is not None:
            done.append(f"Made again in {database.shown}, empty: {', '.join(lost)}")
    except CascadeError:
        return []  # the checks tell it
    for line in done:
        say(line)
    return done


def _attempt(work: Callable[[], list[str]]) -> list[str] | None:
    try:
        return work()
    except CascadeError:
        return None


def _workers(runtime: Runtime) -> list[str]:
    """Rows of workers that ended long ago and own nothing."""
    try:
        count = runtime.store.forget_workers(WORKERS_KEPT.total_seconds())
    except CascadeError:
        return []
    if not count:
        return []
    say(f"Forgot {counted(count, 'worker')} that ended more than {WORKERS_KEPT.days} days ago.")
    return ["forgot"]
