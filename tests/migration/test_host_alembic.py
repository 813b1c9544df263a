"""R50, R160: an application with an Alembic history and tables of its own, in the same database as our store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from celery_cascade.migrations import include_object
from celery_cascade.persistence import migrate, schema
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Base, Session
from celery_cascade.persistence.orm_session import db_session

ENV = """
from alembic import context
from sqlalchemy import create_engine

from celery_cascade.migrations import include_object

given = context.config.attributes
engine = create_engine(given["url"])
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=given["metadata"],
        include_object=include_object,
        include_schemas=given["include_schemas"],
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""


class Host:
    """What `alembic init` makes, with the one line of ours in its env.py."""

    def __init__(self, folder: Path, url: str, *, include_schemas: bool = False) -> None:
        self.metadata = sa.MetaData()
        self.config = Config(folder / "alembic.ini")
        self.config.config_file_name = str(folder / "alembic.ini")
        command.init(self.config, str(folder / "migrations"))
        (folder / "migrations" / "env.py").write_text(ENV)
        self.config.set_main_option("script_location", str(folder / "migrations"))
        self.config.attributes.update(url=url, metadata=self.metadata, include_schemas=include_schemas)

    def autogenerate(self, message: str) -> str:
        """The code of a new revision: what its `upgrade` and `downgrade` do."""
        script = command.revision(self.config, message, autogenerate=True)
        return Path(script.path).read_text().partition("def upgrade()")[2]

    def upgrade(self) -> None:
        command.upgrade(self.config, "head")

    def downgrade(self) -> None:
        command.downgrade(self.config, "base")


@pytest.fixture
def host(tmp_path: Path, database: Database, capsys: pytest.CaptureFixture[str]) -> Iterator[Host]:
    yield Host(tmp_path, database.url.render_as_string(hide_password=False))
    capsys.readouterr()


def names(database: Database) -> set[str]:
    with database.read() as connection:
        return set(sa.inspect(connection).get_table_names())


def test_the_two_histories_do_not_see_one_another(host: Host, database: Database) -> None:
    """R50: revisions, upgrades and downgrades of the host, with our store full; and ours, with the host's tables."""
    migrate.upgrade(database)
    with db_session(database) as db:
        db.add(Session(id="s", name="ours"))
        db.commit()
    orders = sa.Table("orders", host.metadata, sa.Column("id", sa.Integer, primary_key=True))
    first = host.autogenerate("orders")
    assert "op.create_table('orders'" in first
    assert not [name for name in schema.OUR_TABLES if name in first]
    host.upgrade()
    orders.append_column(sa.Column("total", sa.Integer))
    second = host.autogenerate("total")
    assert "op.add_column('orders'" in second
    assert not [name for name in schema.OUR_TABLES if name in second]
    host.upgrade()
    command.check(host.config)
    host.downgrade()
    migrate.check(database)
    assert names(database) == {*schema.TABLES, schema.VERSION_TABLE, "alembic_version"}
    with db_session(database) as db:
        assert db.query(Session.name).scalar() == "ours"
    host.upgrade()
    migrate.downgrade(database, "base")
    assert names(database) == {schema.VERSION_TABLE, "alembic_version", "orders"}
    command.check(host.config)


@pytest.mark.postgresql
def test_host_that_looks_into_every_schema_leaves_ours_alone(tmp_path: Path, postgresql_url: str) -> None:
    """R160: a table of its own may even be called like one of ours."""
    database = Database(postgresql_url, schema="jobs")
    migrate.upgrade(database)
    host = Host(tmp_path, postgresql_url, include_schemas=True)
    sa.Table("session_states", host.metadata, sa.Column("id", sa.Integer, primary_key=True))
    told = host.autogenerate("states")
    assert "op.create_table('session_states'" in told.partition("def downgrade")[0]
    assert "jobs" not in told
    assert "cascade" not in told
    host.upgrade()
    command.check(host.config)
    migrate.check(database)
    database.dispose()


def test_our_models_are_ours_wherever_they_are_compared() -> None:
    """A host that hands both metadatas to Alembic would make our tables in its own history."""
    ours, hosts = Base.metadata.tables["session_states"], sa.Table("session_states", sa.MetaData())
    found = sa.Table("session_states", sa.MetaData())
    assert not include_object(ours, "session_states", "table", False, None)
    assert not include_object(ours, "session_states", "table", False, found)
    assert not include_object(found, "session_states", "table", True, None)
    assert not include_object(found, "session_states", "table", True, ours)
    assert include_object(hosts, "session_states", "table", False, None)
    assert include_object(found, "session_states", "table", True, hosts)
    assert include_object(found, "orders", "table", True, None)
