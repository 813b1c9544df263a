"""`cascade doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.checks import Check, every
from celery_cascade.cli.effective import list_settings
from celery_cascade.cli.exits import DONE
from celery_cascade.cli.options import Verb, json_option
from celery_cascade.cli.problems import as_called
from celery_cascade.cli.words import is_json, out, out_json, printable, say
from celery_cascade.errors import CascadeError, StoreError, UsageError
from celery_cascade.persistence import migrate
from celery_cascade.persistence.store import Store
from celery_cascade.tasks.runtime import Runtime

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("ERROR", "red")}
_EXAMPLE = (
    "celery -A proj cascade doctor",
    "celery -A proj cascade doctor --tasks",
    "celery -A proj cascade doctor --settings",
)


@click.command(cls=Verb, example=_EXAMPLE)
@click.option("--tasks", is_flag=True, help="List the registered tasks, which a cascade file may name.")
@click.option("--settings", is_flag=True, help="List every setting, the value that holds, and where it comes from.")
@click.option("--fix", is_flag=True, help="Move a damaged SQLite store aside, so that a new one can begin.")
@json_option
def doctor(tasks: bool, settings: bool, fix: bool, as_json: bool) -> None:
    """Look at settings, store, broker, workers and tasks, and say what is wrong and how to mend it.

    Exit 0 if all is well (warnings included), 2 for settings, 7 if the store is missing, damaged or out of date,
    69 if database or broker do not answer, 1 for anything else.
    """
    caller = Caller.here()
    runtime = caller.runtime
    if settings:
        list_settings(runtime.app.conf)
    if fix:
        _move_damaged(runtime)
    found = every(runtime, caller)
    names = sorted(name for name in runtime.app.tasks if not name.startswith("celery.")) if tasks else None
    if is_json(click.get_current_context()):
        checks = [{**asdict(check), "hint": as_called(check.hint)} for check in found]
        wrong = any(check.state == "error" for check in found)
        out_json({"ok": not wrong, "checks": checks} | ({} if names is None else {"tasks": names}))
    else:
        _tell(found)
        for name in names or ():
            out(printable(name))
    raise click.exceptions.Exit(next((check.code for check in found if check.state == "error"), DONE))


def _tell(found: list[Check]) -> None:
    for check in found:
        mark, colour = _MARKS[check.state]
        out(f"{click.style(f'{mark:<8}', fg=colour)}{check.name:<9} {printable(check.message, lines=True)}")
        for line in as_called(check.hint).splitlines():
            out(f"{'':<18}{printable(line)}")


def _move_damaged(runtime: Runtime) -> None:
    """Move a damaged SQLite file out of the way; nothing is deleted, nothing of it is read into the new store."""
    database = runtime.open_database()
    try:
        if migrate.current(database) is not None:
            Store(database).open_counts()
    except CascadeError as error:
        if not isinstance(error, StoreError) or "is damaged" not in error.message:
            return  # the checks tell it
    else:
        say("The store is not damaged; there is nothing to fix.")
        return
    finally:
        database.dispose()
    name = database.url.database
    if database.family != "sqlite" or not name:
        raise UsageError(f"{database.shown} is no SQLite file; mend it with its server's own tools")
    moved = _move(Path(name))
    say(f"Moved the damaged store to {moved}; a new, empty one begins at {name}.")
    say(f"What can still be read of it:  sqlite3 {moved} .recover | sqlite3 recovered.sqlite")


def _move(file: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = file.with_name(f"{file.name}.corrupt-{stamp}")
    file.rename(target)
    for suffix in ("-wal", "-shm"):
        beside = file.with_name(file.name + suffix)
        if beside.exists():
            beside.rename(target.with_name(target.name + suffix))
    return target
