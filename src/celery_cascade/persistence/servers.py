"""Which servers are new enough, and a login that the driver cannot make."""

from __future__ import annotations

import re
from typing import Any

from celery_cascade.errors import StoreError

#: By the server's own name. docs/databases.md says what each of them is needed for.
OLDEST: dict[str, tuple[int, ...]] = {"PostgreSQL": (13,), "MySQL": (8, 0, 16), "MariaDB": (10, 6)}


def check_server(connection: Any, family: str) -> None:
    """Refuse a server that is too old, by what it said in its greeting: no question is asked.

    A driver that does not pass the greeting on is believed.

    Raises:
        StoreError: names what was found and what is needed.
    """
    name, said = _server(connection, family)
    oldest = OLDEST.get(name, ())
    numbers = re.match(r"\d+(\.\d+)*", said)  # the last one may be missing
    found = tuple(map(int, numbers[0].split("."))) if numbers else oldest
    if found[: len(oldest)] < oldest[: len(found)]:
        needed = ".".join(map(str, oldest))
        raise StoreError(
            f"the server is {name} {said}; {name} {needed} or later is needed",
            hint="Upgrade the server, or let cascade_database_url name another database",
        )


def _server(connection: Any, family: str) -> tuple[str, str]:
    """Its name and its version as text; an empty text if the driver does not tell."""
    if family == "postgresql":
        number = getattr(getattr(connection, "info", None), "server_version", None)
        return "PostgreSQL", f"{number // 10000}.{number % 10000}" if isinstance(number, int) else ""
    said = getattr(connection, "get_server_info", str)() if family == "mysql" else ""
    # MariaDB up to 10.x greets as 5.5.5, for the sake of old MySQL clients.
    return ("MariaDB", said.removeprefix("5.5.5-")) if "mariadb" in said.lower() else ("MySQL", said)


def refused_login(error: BaseException, shown: str) -> StoreError | None:
    """Our error for a driver that cannot answer MySQL 8's question for the password; None for any other error."""
    if not (isinstance(error, RuntimeError) and "cryptography" in str(error)):
        return None
    return StoreError(
        f"the store {shown} asks for the password in a way that needs the package cryptography"
        " (MySQL's caching_sha2_password without TLS)",
        hint="Run: pip install 'PyMySQL[rsa]'",
    )
