"""MySQL and MariaDB hang up on a statement that is over their `max_allowed_packet`.

To the client this looks as if the server had gone, which is waited for: without a look at the size, a checkpoint with
such an output would be sent again for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from celery_cascade.errors import PayloadTooLarge

#: No server is set to less than this: its default was 1 MB long ago, and 16 MB or more since then.
_HARMLESS = 1_000_000
_PACKET_TOO_LARGE = 1153
#: What PyMySQL and the C clients write as two characters.
_ESCAPED = "\\'\"\n\r\0\x1a"


def suspicious(error: DBAPIError) -> bool:
    """Whether it may be that the server has hung up because of the statement's size."""
    number = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return number == _PACKET_TOO_LARGE or size_of(error) > _HARMLESS


def size_of(error: DBAPIError) -> int:
    """Bytes of the largest set of parameters, as they are sent."""
    given: Any = error.params
    rows = given if isinstance(given, list) else [given]
    return max((sum(map(_bytes, _values(row))) for row in rows), default=0)


def limit_of(connection: Connection) -> int:
    """The server's `max_allowed_packet`, in bytes."""
    return int(connection.execute(text("SELECT @@max_allowed_packet")).scalar_one())


def refusal(size: int, limit: int) -> PayloadTooLarge:
    """The error of a statement that the server will never take."""
    return PayloadTooLarge(
        f"the database server takes {limit:,} bytes in one statement (max_allowed_packet), and this one has {size:,}",
        hint="Raise it on the server: SET GLOBAL max_allowed_packet = 67108864; or lower cascade_max_payload_bytes",
    )


def _values(row: Any) -> Iterable[Any]:
    if isinstance(row, Mapping):
        return row.values()
    return row if isinstance(row, (tuple, list)) else ()


def _bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace")) + sum(value.count(letter) for letter in _ESCAPED)
    if isinstance(value, (bytes, bytearray)):
        return len(value) + sum(value.count(letter.encode()) for letter in _ESCAPED)
    return 16
