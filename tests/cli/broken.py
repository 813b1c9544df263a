"""Stores that are broken, one function each: a row of docs/broken-stores.md each."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from celery_cascade.persistence import database_dialects, migrate
from cli.kit import Project

NOBODY = 65534
PAGE = 4096
NOISE = random.Random(11).randbytes(PAGE)


@dataclass
class Morning:
    """What a case may use: a project that has not run yet, and pytest's tools."""

    make: Callable[..., Project]
    folder: Path
    request: pytest.FixtureRequest
    monkeypatch: pytest.MonkeyPatch
    leave: list[Callable[[], None]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / ".cascade" / "store.sqlite"

    def used(self, **settings: Any) -> Project:
        """A project whose store holds sessions already, and is closed."""
        project = self.make(**settings)
        project.used = [project.ended(), project.started()]  # type: ignore[attr-defined]
        self.close(project)
        return project

    def end(self) -> None:
        """Be oneself again."""
        while self.leave:
            self.leave.pop()()

    def close(self, project: Project) -> None:
        runtime = project.runtime
        if runtime._store is not None:
            runtime._store.database.dispose()
            runtime._store = None

    def sql(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def overwrite(self, page: int, start: int = 0) -> None:
        self.sql()
        content = bytearray(self.file.read_bytes())
        at = (page - 1) * PAGE
        content[at + start : at + PAGE] = NOISE[start:]
        self.file.write_bytes(content)

    def root_of(self, table: str) -> int:
        with closing(sqlite3.connect(self.file)) as connection:
            found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        return int(found[0])

    def become_nobody(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can become somebody else")
        self.folder.chmod(0o755)
        for parent in self.folder.parents:
            if parent != Path("/tmp") and parent.stat().st_uid == os.getuid() and str(parent).startswith("/tmp/"):
                parent.chmod(0o755)
        os.seteuid(NOBODY)
        self.leave.append(lambda: os.seteuid(0))


@contextmanager
def morning(
    make: Callable[..., Project], folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Morning]:
    found = Morning(make, folder, request, monkeypatch)
    try:
        yield found
    finally:
        found.end()


@dataclass(frozen=True)
class Case:
    """A broken store.

    Args:
        what: as the page calls it.
        breaks: makes it.
        code: what start, worker, `ls` and `doctor` exit with.
        fix: what `doctor --fix` then exits with.
        marks: servers that it needs.
    """

    what: str
    breaks: Callable[[Morning], Project]
    code: int
    fix: int
    marks: tuple[str, ...] = ()


CASES: list[Case] = []


def case(what: str, *, code: int, fix: int | None = None, marks: tuple[str, ...] = ()) -> Callable[..., Any]:
    def add(breaks: Callable[[Morning], Project]) -> Callable[[Morning], Project]:
        CASES.append(Case(what, breaks, code, code if fix is None else fix, marks))
        return breaks

    return add


@case("its folder cannot be made", code=69)
def no_folder(day: Morning) -> Project:
    (day.folder / "a-file").write_text("")
    return day.make(cascade_home=str(day.folder / "a-file" / "home"))


@case("this user may not write in its folder", code=69)
def folder_of_others(day: Morning) -> Project:
    project = day.used()
    day.file.chmod(0o644)
    for beside in day.folder.glob(".cascade/*"):
        beside.chmod(0o666)
    day.file.with_name("store.sqlite-wal").unlink(missing_ok=True)
    day.file.with_name("store.sqlite-shm").unlink(missing_ok=True)
    day.file.parent.chmod(0o755)
    day.become_nobody()
    return project


@case("this user may not read the file", code=69)
def file_of_others(day: Morning) -> Project:
    project = day.used()
    day.file.chmod(0o600)
    day.file.parent.chmod(0o777)
    day.become_nobody()
    return project


@case("a folder stands where the file should be", code=69)
def folder_as_file(day: Morning) -> Project:
    day.file.mkdir(parents=True)
    return day.make()


@case("the disk is full", code=69)
def full(day: Morning) -> Project:
    prepare = database_dialects.prepare

    def limited(connection: Any, *args: Any, **kwargs: Any) -> None:
        prepare(connection, *args, **kwargs)
        connection.execute("PRAGMA max_page_count = 3")

    day.monkeypatch.setattr(database_dialects, "prepare", limited)
    return day.make(fresh=True)


@case("the file is no SQLite database", code=7, fix=0)
def no_database(day: Morning) -> Project:
    day.file.parent.mkdir()
    day.file.write_bytes(b"garbage " * 1000)
    return day.make()


@case("garbage in page 1", code=7, fix=0)
def page_1(day: Morning) -> Project:
    project = day.used()
    day.overwrite(1, start=100)
    return project


@case("garbage in a middle page", code=7, fix=0)
def middle_page(day: Morning) -> Project:
    project = day.used()
    day.overwrite(day.root_of("session_steps"))
    return project


@case("never migrated", code=7)
def unmigrated(day: Morning) -> Project:
    return day.make(cascade_database_url=f"sqlite:///{day.folder / 'own.sqlite'}")


@case("older than the code", code=7)
def older(day: Morning) -> Project:
    project = day.make(cascade_database_url=f"sqlite:///{day.folder / 'own.sqlite'}")
    assert project.run("migrate", "up").exit_code == 0
    day.close(project)
    day.monkeypatch.setattr(migrate, "REVISIONS", (*migrate.REVISIONS, "9998"))
    day.monkeypatch.setattr(migrate, "HEAD", "9998")
    return project


@case("newer than the code", code=7)
def newer(day: Morning) -> Project:
    project = day.used()
    day.sql("UPDATE cascade_alembic_version SET version_num = '9999'")
    return project


@case("another program's database", code=7)
def of_others(day: Morning) -> Project:
    day.file.parent.mkdir()
    day.sql("CREATE TABLE customers (id INTEGER)")
    return day.make()


@case("a table of it was dropped", code=7, fix=0)
def dropped(day: Morning) -> Project:
    project = day.used()
    day.sql("DROP TABLE session_steps")
    return project


@case("the server does not answer", code=69)
def away(day: Morning) -> Project:
    return day.make(cascade_database_url="postgresql://shop:canary@127.0.0.1:1/shop", cascade_database_patience=0.2)


@case("PostgreSQL: wrong user", code=69, marks=("postgresql",))
def postgresql_user(day: Morning) -> Project:
    return day.make(
        cascade_database_url=_changed(day, "postgresql", username="shop", password="canary", database="shop")
    )


@case("PostgreSQL: no such database", code=7, marks=("postgresql",))
def postgresql_database(day: Morning) -> Project:
    return day.make(cascade_database_url=_changed(day, "postgresql", database="shop"))


@case("MariaDB: wrong password", code=69, marks=("mariadb",))
def mariadb_password(day: Morning) -> Project:
    return day.make(cascade_database_url=_changed(day, "mariadb", username="shop", password="canary", database="shop"))


@case("MariaDB: no such database", code=7, marks=("mariadb",))
def mariadb_database(day: Morning) -> Project:
    return day.make(cascade_database_url=_changed(day, "mariadb", database="shop"))


@case("a URL of a database that we do not speak to", code=2)
def unknown_database(day: Morning) -> Project:
    return day.make(cascade_database_url="oracle://shop@db/shop")


@case("a text that is no URL", code=2)
def no_url(day: Morning) -> Project:
    return day.make(cascade_database_url="store.sqlite")


@case("a slash is missing in the URL of a file", code=2)
def missing_slash(day: Morning) -> Project:
    return day.make(cascade_database_url="sqlite://store.sqlite")


@case("a driver that SQLAlchemy does not know", code=2)
def unknown_driver(day: Morning) -> Project:
    return day.make(cascade_database_url="mysql+mysqlclient://shop@db/shop")


@case("a driver for asyncio", code=2)
def asyncio_driver(day: Morning) -> Project:
    return day.make(cascade_database_url="postgresql+asyncpg://shop@db/shop")


@case("a driver that is not installed", code=2)
def no_driver(day: Morning) -> Project:
    return day.make(cascade_database_url="postgresql+pg8000://shop@db/shop")


def _changed(day: Morning, server: str, **changes: str) -> str:
    from sqlalchemy.engine import make_url

    url = make_url(day.request.getfixturevalue(f"{server}_url")).set(**changes)
    return url.set(query={}).render_as_string(hide_password=False)
