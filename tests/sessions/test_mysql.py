"""All that a session sends, written for MySQL 8: on MariaDB, which knows the same words, by telling SQLAlchemy so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from celery_cascade.persistence.database import Database
from sessions.conftest import migrated
from sessions.kit import CHAIN, Kit
from support import services
from unit.persistence.test_mysql import MARIADB_ONLY

pytestmark = pytest.mark.mariadb


@pytest.fixture
def sent(make_kit: Callable[..., Kit], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Kit, list[str]]]:
    """A project whose SQLAlchemy takes the server for MySQL 8.0.18, and what it sends.

    One version before the row alias of ON DUPLICATE KEY, the only thing that MariaDB does not understand.
    """
    statements: list[str] = []
    make_engine = Database._make_engine

    def make(database: Database) -> sa.Engine:
        engine = make_engine(database)
        engine.connect().close()  # what it found out itself is written over
        engine.dialect.server_version_info, engine.dialect.is_mariadb = (8, 0, 18), False
        for name in ("insert_returning", "delete_returning"):
            setattr(engine.dialect, name, False)
        sa.event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement))
        return engine

    with services.fresh_mariadb_url() as url:
        migrated(url)
        monkeypatch.setattr(Database, "_make_engine", make)
        kit = make_kit(url)
        yield kit, statements
        kit.store.database.dispose()


def test_nothing_is_sent_that_mariadb_alone_understands(sent: tuple[Kit, list[str]]) -> None:
    kit, statements = sent
    session = kit.cascades.start(kit.file(CHAIN), {"n": 1}, session_id="s1", tags=["a"])
    kit.deliver()
    assert session.result(timeout=0) == 4
    failed = kit.run({"id": "x", "task": "broken"})
    assert failed.status == "failed"
    kit.fix.add("fixed")
    failed.resume()
    kit.deliver()
    waiting: Any = kit.start("a", session_id="s2")
    waiting.suspend()
    waiting.cancel(reason="enough")
    session.to_dict()
    kit.cascades.sessions(status="completed", limit=5)
    kit.cascades.prune(dry_run=True)
    kit.cascades.prune()
    verbs = {statement.split()[0] for statement in statements}
    assert {"SELECT", "INSERT", "UPDATE"} <= verbs
    assert len(set(statements)) > 40
    assert [statement for statement in statements if MARIADB_ONLY.search(statement)] == []
