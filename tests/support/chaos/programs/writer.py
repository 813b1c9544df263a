"""Writes to SQLite files for some seconds as a careless neighbour would: long transactions, back to back."""

from __future__ import annotations

import random
import sqlite3
import sys
import time

until = time.monotonic() + float(sys.argv[1])
rng = random.Random(sys.argv[2])
files = [sqlite3.connect(path, timeout=5, isolation_level=None) for path in sys.argv[3:]]
while time.monotonic() < until:
    connection = rng.choice(files)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE IF NOT EXISTS neighbour (noise BLOB)")
        connection.executemany("INSERT INTO neighbour VALUES (?)", [(rng.randbytes(2000),) for _ in range(50)])
        time.sleep(rng.uniform(0, 0.3))
        connection.execute("DELETE FROM neighbour")
        connection.execute(rng.choice(["COMMIT", "ROLLBACK"]))
    except sqlite3.OperationalError:  # somebody else was first
        if connection.in_transaction:
            connection.execute("ROLLBACK")
