"""What is wrong with settings that are right alone, each with its cure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from celery_cascade.config.about import PREFIX

_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def contradictions(values: Mapping[str, Any]) -> list[str]:
    """Every contradiction among settings."""
    timeout, interval = values["heartbeat_timeout"], values["heartbeat_interval"]
    found = []
    if timeout < 2 * interval:
        found.append(
            f"{PREFIX}heartbeat_timeout ({timeout:g} s) must be at least twice "
            f"{PREFIX}heartbeat_interval ({interval:g} s): one late beat would look like a death"
        )
    if values["schema"] is not None:
        problem = schema_problem(values["schema"], values["database_url"])
        found += [problem] if problem else []
    return found


def schema_problem(schema: str, database_url: str | None) -> str | None:
    """Why our tables cannot live in this schema of this database; None if they can."""
    if not _SCHEMA.fullmatch(schema) or schema.lower().startswith("pg_") or schema.lower() == "information_schema":
        return (
            f"{PREFIX}schema is {schema!r}; a schema's name is 1 to 63 of A-Z a-z 0-9 _, begins with no digit, "
            "and is not one of PostgreSQL's own (pg_…, information_schema)"
        )
    database = "the embedded SQLite store" if database_url is None else database_url.partition(":")[0]
    if not database.startswith("postgres"):
        return (
            f"{PREFIX}schema is {schema!r}, but only PostgreSQL has schemas and this is {database}; "
            f"leave {PREFIX}schema out, and give the store a database of its own instead"
        )
    return None
