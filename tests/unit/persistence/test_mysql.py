"""Nothing that only MariaDB understands is sent to MySQL 8 (docs/databases.md). No MySQL server is asked: see there."""

from __future__ import annotations

import importlib
import pkgutil
import re
import warnings
from collections.abc import Iterator

import pytest
from sqlalchemy import UniqueConstraint
from sqlalchemy.dialects.mysql.pymysql import dialect as pymysql_dialect
from sqlalchemy.dialects.mysql.reserved_words import RESERVED_WORDS_MYSQL
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.selectable import Select

import celery_cascade.persistence
from celery_cascade.persistence import claim, migrate, start
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Base

#: What MariaDB has and MySQL 8.0 lacks, or writes otherwise.
MARIADB_ONLY = re.compile(
    r"\bRETURNING\b|CREATE OR REPLACE (?!VIEW|SQL SECURITY)|ADD (COLUMN|INDEX|CONSTRAINT) IF NOT EXISTS"
    r"|(CREATE|DROP) INDEX IF (NOT )?EXISTS|CREATE SEQUENCE|NEXT VALUE FOR|\bFOR PORTION OF\b|SYSTEM VERSIONING"
    r"|JSON_ARRAYAGG\([^)]*ORDER BY|GROUP_CONCAT|\bJSON_(DETAILED|COMPACT|LOOSE|QUERY|EXISTS)\b|\bNVL2?\(|\bMEDIAN\("
    r"|\bDELETE .* RETURNING|\bPAGE_COMPRESSED\b|\bUUID\b(?!\()|\bINET6\b|\bFOR UPDATE (WAIT|NOWAIT) \d|utf8mb4_uca",
    re.IGNORECASE,
)
#: Only these two bear RETURNING, and MySQL's family never gets them (claim._claim_row).
NOT_FOR_MYSQL = [claim._CLAIM_RETURNING, claim._CLAIM_TIMED_RETURNING]


@pytest.fixture(scope="module")
def script() -> str:
    return migrate.sql(Database("mysql://h/d"))


def mysql_8() -> pymysql_dialect:
    dialect = pymysql_dialect()
    dialect.server_version_info, dialect.is_mariadb = (8, 0, 36), False
    dialect._requires_alias_for_on_duplicate_key = True  # as SQLAlchemy finds at the first connection
    return dialect


def compiled() -> Iterator[tuple[str, str]]:
    """Every statement that is built once for all, with its name."""
    for module in pkgutil.iter_modules(celery_cascade.persistence.__path__):
        found = importlib.import_module(f"celery_cascade.persistence.{module.name}")
        for name, value in vars(found).items():
            if isinstance(value, (Select, Insert, Update, Delete)) and not any(value is no for no in NOT_FOR_MYSQL):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of an INSERT whose values come with its execution
                    yield f"{module.name}.{name}", str(value.compile(dialect=mysql_8()))


def test_no_prepared_statement_is_for_mariadb_alone() -> None:
    statements = dict(compiled())
    assert len(statements) > 40
    assert {name: found[0] for name, text in statements.items() if (found := MARIADB_ONLY.search(text))} == {}


def test_an_insert_that_may_be_there_already_is_written_with_the_row_alias() -> None:
    """From MySQL 8.0.20 VALUES() is deprecated there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = str(start._insert_definition("mysql").compile(dialect=mysql_8()))
    assert "AS new ON DUPLICATE KEY UPDATE" in text


def test_the_migration_is_for_mysql(script: str) -> None:
    assert MARIADB_ONLY.search(script) is None
    assert "JSON_ARRAYAGG" in script  # a view's GROUP_CONCAT would be cut after 1,024 bytes there
    assert "SIGNAL SQLSTATE" in script
    ends = [line for line in script.splitlines() if line.startswith(")") and "ENGINE=InnoDB" in line]
    assert len(ends) == len(Base.metadata.tables)
    assert all("CHARSET=utf8mb4" in line and "COLLATE utf8mb4_bin" in line for line in ends)  # in any order


def test_the_search_finds_what_it_looks_for() -> None:
    """The same script for MariaDB has some."""
    found = migrate.sql(Database("mariadb+pymysql://h/d"))
    assert MARIADB_ONLY.search(found) is not None


def test_every_table_has_a_primary_key(script: str) -> None:
    """sql_require_primary_key; the version table is Alembic's."""
    tables = re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", script, re.DOTALL)
    assert len(tables) == len(Base.metadata.tables) + 1
    assert [name for name, body in tables if "PRIMARY KEY" not in body] == []


def test_every_foreign_key_leads_to_a_unique_key_and_has_no_check_upon_it() -> None:
    """MySQL 8.4's restrict_fk_on_non_standard_key; and a CHECK may not be on a column that a foreign key changes."""
    for table in Base.metadata.tables.values():
        for key in table.foreign_key_constraints:
            wanted = {element.column.name for element in key.elements}
            target = key.referred_table
            unique = [set(target.primary_key.columns.keys())]
            unique += [set(c.columns.keys()) for c in target.constraints if isinstance(c, UniqueConstraint)]
            assert wanted in unique, key.name
            checks = " ".join(str(c.sqltext) for c in table.constraints if hasattr(c, "sqltext"))
            assert not any(re.search(rf"\b{column}\b", checks) for column in key.column_keys), key.name


def test_no_name_is_longer_than_mysql_takes(script: str) -> None:
    """64 letters."""
    names = re.findall(r"(?:TABLE|INDEX|VIEW|TRIGGER|CONSTRAINT) (\w+)", script)
    assert len(names) > 60
    assert [name for name in names if len(name) > 64] == []


def test_no_reserved_word_of_mysql_8_stands_unquoted_in_our_own_sql(script: str) -> None:
    """SQLAlchemy quotes its own; views and triggers are written by hand. After a period no word is reserved."""
    by_hand = script[script.index("VIEW cascade_sessions_full") :]
    names = set(re.findall(r"(?:\bAS |NEW\.|OLD\.|FROM \w+ )([a-z_]+)\b", by_hand))
    assert {"cascade_definition", "conversation_history", "m", "d"} <= names
    assert names & {word.lower() for word in RESERVED_WORDS_MYSQL} == set()
