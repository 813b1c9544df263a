"""One TLS context for all connections of PyMySQL that were not told how to use TLS.

Such a connection takes TLS where the server offers it and verifies nobody; yet PyMySQL (2.2) reads all certificates of
the machine for each: 29 ms of CPU where the connection itself takes 0.4. A prefork worker's main process opens one for
every heartbeat.
"""

from __future__ import annotations

import functools
from typing import Any


def connect(dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
    """For SQLAlchemy's `do_connect`: a connection; None = the driver connects by itself.

    Left to it are other drivers, and a `pymysql.connect` that somebody has wrapped, as tracing libraries do.
    """
    if dialect.driver != "pymysql" or dialect.loaded_dbapi.connect is not _sharing().__base__:
        return None
    return _sharing()(*arguments, **options)


@functools.cache
def _sharing() -> Any:
    from pymysql.connections import Connection  # type: ignore[import-untyped]

    class Sharing(Connection):
        """PyMySQL's connection; asked for a context without any option it answers with the same one each time."""

        shared: Any = None

        def _create_ssl_ctx(self, options: Any) -> Any:
            if options:
                return super()._create_ssl_ctx(options)
            if Sharing.shared is None:
                Sharing.shared = super()._create_ssl_ctx(options)
            return Sharing.shared

    return Sharing
