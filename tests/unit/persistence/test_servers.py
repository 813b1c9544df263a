"""A server that is too old, or that asks for the password in a way that the driver cannot answer, is told as such."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pymysql
import pytest

from celery_cascade.errors import StoreError
from celery_cascade.persistence import database_dialects as dialects
from celery_cascade.persistence import servers
from celery_cascade.persistence.database import Database

PAGE = (Path(__file__).parents[3] / "docs" / "databases.md").read_text(encoding="utf-8")


def mysql(said: str) -> Any:
    return SimpleNamespace(get_server_info=lambda: said)


def postgresql(number: int) -> Any:
    return SimpleNamespace(info=SimpleNamespace(server_version=number))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("5.7.44-log", "MySQL 5.7.44-log; MySQL 8.0.16 or later"),
        ("8.0.15", "MySQL 8.0.15; MySQL 8.0.16 or later"),
        ("5.5.5-10.5.23-MariaDB-1:10.5.23+maria~ubu2004", "MariaDB 10.5.23-MariaDB-1"),
        ("5.5.68-MariaDB", "MariaDB 5.5.68-MariaDB; MariaDB 10.6 or later"),
    ],
)
def test_a_mysql_or_mariadb_that_is_too_old_is_refused(said: str, told: str) -> None:
    with pytest.raises(StoreError, match=re.escape(told)) as caught:
        servers.check_server(mysql(said), "mysql")
    assert "Upgrade the server" in caught.value.hint


@pytest.mark.parametrize(
    "said",
    [
        "8.0.16", "8.0.36-28", "8.4.2", "9.1.0", "8.0.31-google", "8.0.mysql_aurora.3.05.2",
        "10.6.0-MariaDB", "5.5.5-10.11.6-MariaDB-0+deb12u1", "11.4.2-MariaDB", "12.0.2-MariaDB-log", "",
    ],
)  # fmt: skip
def test_others_are_not(said: str) -> None:
    servers.check_server(mysql(said), "mysql")


def test_postgresql_is_asked_for_13() -> None:
    with pytest.raises(StoreError, match=r"PostgreSQL 12\.17; PostgreSQL 13 or later"):
        servers.check_server(postgresql(120017), "postgresql")
    servers.check_server(postgresql(130000), "postgresql")
    servers.check_server(postgresql(180001), "postgresql")


def test_a_driver_that_does_not_tell_is_believed() -> None:
    for family in ("mysql", "postgresql", "sqlite"):
        servers.check_server(object(), family)


def test_the_store_says_so_at_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """No statement is sent to such a server."""
    monkeypatch.setattr(pymysql, "connect", lambda **_: SimpleNamespace(get_server_info=lambda: "5.7.44", close=int))
    with pytest.raises(StoreError, match=r"MySQL 5\.7\.44"):
        Database("mysql://h/d").ping()


def test_a_password_that_needs_cryptography_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """MySQL 8's caching_sha2_password, over a connection without TLS."""

    def connect(**_: Any) -> None:
        raise RuntimeError(
            "'cryptography' package is required for sha256_password or caching_sha2_password auth methods"
        )

    monkeypatch.setattr(pymysql, "connect", connect)
    with pytest.raises(StoreError, match="needs the package cryptography") as caught:
        Database("mysql://me:sekret@h/d").ping()
    assert caught.value.hint == "Run: pip install 'PyMySQL[rsa]'"
    assert "sekret" not in str(caught.value)
    assert "PyMySQL[rsa]" in PAGE


def test_the_drivers_words_are_still_those(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyMySQL raises where cryptography is not installed."""
    from pymysql import _auth

    monkeypatch.setattr(_auth, "_have_cryptography", False)
    with pytest.raises(RuntimeError) as caught:
        _auth.sha2_rsa_encrypt(b"password", b"salt" * 5, b"key")
    assert servers.refused_login(caught.value, "mysql://h/d") is not None


def test_the_page_names_the_versions_that_the_code_asks_for() -> None:
    for name, oldest in servers.OLDEST.items():
        assert f"{name} {'.'.join(map(str, oldest))}" in PAGE
    assert f"SQLite {'.'.join(map(str, dialects._OLDEST_SQLITE))}" in PAGE
