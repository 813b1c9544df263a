"""Bytes of PostgreSQL's log that one database has written, whoever else uses the server.

The extension pg_walinspect (PostgreSQL 15, contrib) tells each record's database; without it, it is the whole server's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

POSITION = "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint"

# Or the server's next checkpoint deletes what is to be read. The slot is temporary: it ends with its connection.
_KEEP = "SELECT pg_create_physical_replication_slot(:name, true, true)"

# A commit names no database: it counts with its transaction.
_OURS = """
WITH log AS (
  SELECT xid, record_length, fpi_length,
         block_ref ~ ('rel [0-9]+/' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '/') AS ours
    FROM pg_get_wal_records_info('0/0'::pg_lsn + CAST(:first AS numeric), '0/0'::pg_lsn + CAST(:last AS numeric))
)
SELECT coalesce(sum(record_length - fpi_length), 0)::bigint, coalesce(sum(fpi_length), 0)::bigint
  FROM log
 WHERE ours OR xid::text IN (SELECT xid::text FROM log WHERE ours AND xid::text <> '0')
"""


@dataclass
class Written:
    """Between two positions.

    Args:
        bytes: records without full-page images.
        images: full-page images: each page's first change after the server's own checkpoint is written whole.
        exact: of this database alone.
    """

    bytes: float
    images: float
    exact: bool


class Log:
    """The log of the server that a database is on.

    Args:
        url: of the database; its tables are not touched.
    """

    def __init__(self, url: str) -> None:
        engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        self._connection = engine.connect()
        try:
            self._ask("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
            self._ask(_KEEP, name=f"cascade_bench_{os.getpid()}")
            self.exact = True
        except SQLAlchemyError:
            self.exact = False

    def close(self) -> None:
        self._connection.close()

    def position(self) -> int:
        return int(self._ask(POSITION).scalar_one())

    def between(self, first: int, last: int) -> Written:
        if not self.exact:
            return Written(last - first, 0, exact=False)
        row = self._ask(_OURS, first=first, last=last).one()
        return Written(row[0], row[1], exact=True)

    def _ask(self, statement: str, **parameters: Any) -> Any:
        return self._connection.execute(sa.text(statement), parameters)
