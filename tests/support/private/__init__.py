"""Servers of a test's own, to be stopped, killed and started again. The shared ones are never touched.

Each listens on a free port of the loopback, keeps its data in a temporary folder, and ends with the test, even when
that is killed.
"""

from __future__ import annotations

from support import services
from support.private.brokers import RabbitMQ, Redis
from support.private.databases import MariaDB, PostgreSQL
from support.private.server import Missing, Server

KINDS: dict[str, type[Server]] = {"postgresql": PostgreSQL, "mariadb": MariaDB, "redis": Redis, "rabbitmq": RabbitMQ}

__all__ = ["KINDS", "MariaDB", "Missing", "PostgreSQL", "RabbitMQ", "Redis", "Server", "require"]


def require(name: str) -> Server:
    """A server for `with require("redis") as server:`. Where its programs are missing, the test ends here."""
    try:
        return KINDS[name]()
    except Missing as missing:
        services.give_up(f"{services.SERVICES[name].missing} {missing}")
