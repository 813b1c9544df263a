"""What a URL says, and what is said about one that cannot be used."""

from __future__ import annotations

import sqlite3
import sys

import pytest

from celery_cascade.errors import ConfigError, StoreUnavailable
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.database_dialects import package_of


@pytest.mark.parametrize(
    ("url", "driver", "family"),
    [
        ("sqlite:///x.db", "sqlite", "sqlite"),
        ("postgresql://h/d", "postgresql+psycopg", "postgresql"),
        ("postgres://h/d", "postgresql+psycopg", "postgresql"),
        ("postgresql+psycopg2://h/d", "postgresql+psycopg2", "postgresql"),
        ("mysql://h/d", "mysql+pymysql", "mysql"),
        ("mariadb://h/d", "mysql+pymysql", "mysql"),
        ("mariadb+pymysql://h/d", "mariadb+pymysql", "mysql"),
    ],
)
def test_driver_is_filled_in_where_none_is_named(url, driver, family):
    database = Database(url)
    assert (database.url.drivername, database.family) == (driver, family)


@pytest.mark.parametrize(
    ("url", "says"),
    [("nonsense", "cannot be read as a URL"), ("oracle://h/d", "'oracle' is not one of sqlite, postgresql")],
)
def test_url_of_no_database_we_know_is_a_config_error(url, says):
    with pytest.raises(ConfigError, match=says):
        Database(url)


@pytest.mark.parametrize("url", ["sqlite://x.db", "sqlite://var/x.db", "sqlite+pysqlite://x.db", "sqlite://me@/x.db"])
def test_sqlite_with_a_slash_too_few_is_a_config_error_that_names_the_right_form(url):
    with pytest.raises(ConfigError, match="a slash is missing after sqlite://") as caught:
        Database(url)
    assert caught.value.exit_code == 2
    assert "sqlite:////absolute/path" in caught.value.hint
    assert "sqlite:///file" in caught.value.hint


def test_a_file_in_a_folder_with_odd_letters_is_made_there_and_nowhere_else(tmp_path):
    """R92: what means something in a URL is a letter in a file's name."""
    file = tmp_path / "a?b 100%41 #x;ü" / "store.sqlite"
    Database(file).ping()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix == ".sqlite"] == [file]
    assert [path.name for path in tmp_path.iterdir()] == [file.parent.name]


def test_unreadable_url_is_not_repeated():
    """R145: it may hold a password."""
    with pytest.raises(ConfigError) as caught:
        Database("sekret@nowhere")
    assert "sekret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_missing_driver_names_the_extra(monkeypatch):
    """R53's kind: a package that is missing is named with its pip command."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'celery-cascade\[postgresql\]'"):
        Database("postgresql://h/d").ping()


@pytest.mark.parametrize(
    ("url", "module", "distribution"),
    [
        ("mysql+mysqldb://h/d", "MySQLdb", "mysqlclient"),
        ("mysql+mysqlconnector://h/d", "mysql.connector", "mysql-connector-python"),
        ("mariadb+pymysql://h/d", "pymysql", "PyMySQL"),
        ("postgresql+psycopg2://h/d", "psycopg2", "psycopg2-binary"),
        ("postgresql+psycopg2://h/d", None, "psycopg2-binary"),
        ("postgresql+pg8000://h/d", "pg8000", "pg8000"),
    ],
)
def test_a_driver_is_named_as_pip_knows_it(url, module, distribution):
    database = Database(url)
    assert package_of(database.url, database.family, module) == distribution


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:sekret@127.0.0.1:1/d",
        "mysql://me:sekret@127.0.0.1:1/d",
        "postgresql://127.0.0.1:1/d?user=me&password=sekret",
    ],
)
def test_unreachable_server_is_named_without_its_password(url):
    """R145, R150."""
    database = Database(url)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1") as caught:
        database.ping()
    assert "sekret" not in str(caught.value) + repr(database)
    assert "cascade doctor" in caught.value.hint
    with pytest.raises(StoreUnavailable):
        database.transaction(lambda connection: None)


def test_folder_of_the_file_is_made_on_first_use(tmp_path):
    """R92."""
    database = Database(f"sqlite:///{tmp_path}/a/b/store.db")
    assert not (tmp_path / "a").exists()
    database.ping()
    database.dispose()
    assert (tmp_path / "a" / "b" / "store.db").exists()


def test_folder_that_cannot_be_made_is_named(tmp_path):
    """R122."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file/folder") as caught:
        Database(f"sqlite:///{tmp_path}/file/folder/store.db").ping()
    assert "CELERY_CASCADE_HOME" in caught.value.hint


def test_old_sqlite_is_refused(monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(ConfigError, match=r"SQLite is 3\.34\.1; 3\.35 or later"):
        Database("sqlite://")


def test_file_that_is_no_database_is_told_and_left_as_it_is(tmp_path):
    """R121: evidence is never overwritten."""
    from celery_cascade.errors import StoreError

    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is damaged") as caught:
        Database(f"sqlite:///{path}").ping()
    assert caught.value.exit_code == 7
    assert path.read_bytes() == before


def test_its_place_is_told_without_user_secret_or_options():
    """R158, R145: messages bear it."""
    database = Database("postgresql://ann:s3cret@db.example:5433/shop?sslpassword=s3cret&application_name=ann")
    assert database.place == "postgresql://db.example:5433/shop"
    assert Database("sqlite:////var/shop.sqlite").place.startswith("sqlite:////var/shop.sqlite on ")
