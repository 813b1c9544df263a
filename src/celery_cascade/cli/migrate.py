"""`cascade migrate`: the tables of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.options import Verb, VerbGroup, json_option
from celery_cascade.cli.words import counted, is_json, out, out_json, say
from celery_cascade.errors import CascadeError, UsageError
from celery_cascade.persistence import migrate as migrations
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.store import Store

_EXAMPLE = ("celery -A proj cascade migrate up", "celery -A proj cascade migrate check")


@click.group(cls=VerbGroup, example=_EXAMPLE)
def migrate() -> None:
    """Make the tables of the store, bring them up to date, or look at them.

    The embedded SQLite store does this by itself; a server's database only by this command. `up` does nothing the
    second time; `check` is for a deploy: it exits 7 if `up` is needed.
    """


@migrate.command(cls=Verb, example=("celery -A proj cascade migrate up",))
@json_option
def up(as_json: bool) -> None:
    """Bring the tables to what this version needs."""
    with _database() as database:
        done = migrations.upgrade(database)
        _report(database, done, "Executed")


@migrate.command(
    cls=Verb, example=("celery -A proj cascade migrate down", "celery -A proj cascade migrate down base --yes")
)
@click.argument("revision", default="-1")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def down(revision: str, yes: bool, as_json: bool) -> None:
    """Undo the last migration, or all after REVISION; `base` drops every table with the sessions in it."""
    with _database() as database:
        if migrations.current(database) is None:
            raise UsageError(f"the store {database.shown} has no tables of celery-cascade; there is nothing to undo")
        if not yes:
            _confirm(database)
        done = migrations.downgrade(database, revision)
        _report(database, done, "Undid")


@migrate.command(cls=Verb, example=("celery -A proj cascade migrate current",))
@json_option
def current(as_json: bool) -> None:
    """Say which revision the tables have, and what is pending."""
    with _database() as database:
        found, pending = migrations.current(database), migrations.pending(database)
        if is_json(click.get_current_context()):
            out_json({"revision": found, "head": migrations.head(), "pending": pending})
            return
        out(found or "none")
        say(f"{counted(len(pending), 'migration')} pending" + (f": {', '.join(pending)}" if pending else ""))


@migrate.command(
    cls=Verb, example=("celery -A proj cascade migrate check",), exits={0: "up to date", 7: "`up` is needed"}
)
@json_option
def check(as_json: bool) -> None:
    """Say whether the tables are what this version needs."""
    with _database() as database:
        migrations.check(database)
        if is_json(click.get_current_context()):
            out_json({"revision": migrations.head(), "head": migrations.head(), "pending": []})
        else:
            say(f"The store {database.shown} is up to date (revision {migrations.head()}).")


@migrate.command(cls=Verb, example=("celery -A proj cascade migrate sql > cascade.sql",))
def sql() -> None:
    """Print the SQL that makes the tables, for people who run such things by hand."""
    with _database() as database:
        out(migrations.sql(database).rstrip(), theirs=True)


@contextmanager
def _database() -> Iterator[Database]:
    """The store's database without a look at its tables."""
    database = Caller.here().runtime.open_database()
    try:
        yield database
    finally:
        database.dispose()


def _report(database: Database, done: list[str], verb: str) -> None:
    found, pending = migrations.current(database), migrations.pending(database)
    if is_json(click.get_current_context()):
        out_json({"executed": done, "revision": found, "head": migrations.head(), "pending": pending})
        return
    names = f": {', '.join(done)}" if done else ""
    out(f"{verb} {counted(len(done), 'migration')}{names}; {len(pending)} pending.")
    say(f"The store {database.shown} is at revision {found or 'none'}.")


def _confirm(database: Database) -> None:
    try:
        counts = Store(database).open_counts()
        held = counted(sum(counts.values()), "session")
    except CascadeError:  # tables of another version
        held = "sessions"
    say(f"The store {database.shown} holds {held}. Undoing a migration deletes what it made.")
    try:
        sure = click.confirm("Go on?", err=True)
    except click.Abort:
        raise UsageError("nobody is there to confirm this", hint="Say it on the command line: --yes") from None
    if not sure:
        raise UsageError("nothing was changed")
