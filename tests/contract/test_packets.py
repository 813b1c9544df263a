"""MySQL and MariaDB hang up on a statement over `max_allowed_packet`, which looks as if the server had gone."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from celery_cascade.errors import PayloadTooLarge, StoreUnavailable
from celery_cascade.persistence import packets
from celery_cascade.persistence.database import Database

LENGTH = sa.text("SELECT length(:given)")


@pytest.mark.mariadb
@pytest.mark.parametrize("way", ["transaction", "single"])
def test_a_statement_that_the_server_will_never_take_is_refused_and_not_sent_for_ever(
    mariadb_url: str, way: str
) -> None:
    """R83: it is within cascade_max_payload_bytes, but the driver sends every quote as two characters."""
    database = Database(mariadb_url)
    with database.read() as connection:
        limit = packets.limit_of(connection)
    if limit > 100_000_000:
        pytest.skip(f"this server takes {limit:,} bytes in one statement")
    run = getattr(database, way)
    with pytest.raises(PayloadTooLarge, match="max_allowed_packet") as caught:
        run(lambda connection: connection.execute(LENGTH, {"given": "'" * (limit // 2 + 1)}).scalar())
    assert f"{limit:,} bytes" in caught.value.message
    assert "SET GLOBAL max_allowed_packet" in caught.value.hint
    fits = limit // 2 - 1000
    assert run(lambda connection: connection.execute(LENGTH, {"given": "'" * fits}).scalar()) == fits
    database.dispose()


def test_a_server_that_has_gone_is_still_told_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of what was being sent."""
    database = Database("mysql://127.0.0.1:1/d", busy_timeout=0.1)
    lost = OperationalError("INSERT", {"given": "x" * 2_000_000}, Exception(2013, "Lost connection"))

    def lose(_: Any) -> None:
        raise lost

    monkeypatch.setattr(Database, "_in_transaction", lambda *_: lose(None))
    with pytest.raises(StoreUnavailable):
        database.transaction(lose)


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ({"a": "x" * 10, "b": None}, 26),
        ({"a": "\\\"'\n"}, 8),
        ({"a": b"\x00" * 5}, 10),
        ([{"a": "x"}, {"a": "xxx"}], 3),
        (("ü",), 2),
        (None, 0),
    ],
)
def test_the_size_is_that_of_the_largest_row_as_it_is_sent(parameters: Any, size: int) -> None:
    assert packets.size_of(DBAPIError("INSERT", parameters, Exception())) == size
