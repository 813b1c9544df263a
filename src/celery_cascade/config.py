"""Every setting in one frozen, validated object, read from the Celery configuration once (keys `cascade_*`)."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery_cascade.errors import ConfigError

PREFIX = "cascade_"
URL_VARIABLE = "CELERY_CASCADE_DATABASE_URL"
HOME_VARIABLE = "CELERY_CASCADE_HOME"
SCHEMA_VARIABLE = "CELERY_CASCADE_SCHEMA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished sessions stay (D9). `None` for an age = for ever.

    Args:
        completed, cancelled, expired: age after the end at which the session may go.
        failed: longer, because a failed session can still be resumed.
        keep_last: the newest finished sessions of each cascade that stay whatever their age.
        batch: most sessions deleted in one transaction.
    """

    completed: timedelta | None = timedelta(days=7)
    cancelled: timedelta | None = timedelta(days=7)
    expired: timedelta | None = timedelta(days=7)
    failed: timedelta | None = timedelta(days=30)
    keep_last: int = 20
    batch: int = 1000

    def __post_init__(self) -> None:
        for name in ("completed", "cancelled", "expired", "failed"):
            age = getattr(self, name)
            if age is not None and (not isinstance(age, timedelta) or age < timedelta()):
                raise ConfigError(f"cascade_retention: {name} is {age!r}; it must be a timedelta, or None for ever")
        for name, least in (("keep_last", 0), ("batch", 1)):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise ConfigError(f"cascade_retention: {name} is {count!r}; it must be a whole number, {least} or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeConfig:
    """The settings of one app; times are seconds, sizes are bytes.

    Args:
        database_url: SQLAlchemy URL of the store. None = SQLite in `home`.
        home: folder of the embedded store; None = `.cascade` beside the module that made `Cascades`.
        auto_migrate: whether a server database is migrated on first use. The embedded SQLite always is.
        heartbeat_interval: how often a worker says that it is alive.
        heartbeat_timeout: silence after which another worker takes its steps; longer than three intervals
            rides out pauses, shorter resumes sooner.
        timer_interval: how often due retries, resends and deadlines are looked for.
        orphan_interval: how often steps of dead workers are looked for.
        resend_after: how long a queued step may go unclaimed before its message is sent again.
        max_crashes: how often a step may take its worker down before its session is suspended as `poisoned`.
        max_payload_bytes: largest input, argument list or output, as stored JSON.
        max_definition_bytes: largest cascade file.
        database_patience: how long a claim waits for a database that is away before it gives the message up.
        retention: what prune deletes; None = nothing, ever.
        definitions: glob patterns of cascade files that `celery_cascade.start` may start by name.
        queue: Celery queue of steps that name none; None = as their task is routed.
        schema: PostgreSQL schema of our tables; None = the first of the role's `search_path`, mostly `public`.
    """

    database_url: str | None = None
    home: str | None = None
    auto_migrate: bool = False
    heartbeat_interval: float = 5.0
    heartbeat_timeout: float = 15.0
    timer_interval: float = 1.0
    orphan_interval: float = 2.0
    resend_after: float = 60.0
    max_crashes: int = 5
    max_payload_bytes: int = 10 * 1024 * 1024
    max_definition_bytes: int = 1024 * 1024
    database_patience: float = 30.0
    retention: Retention | None = field(default_factory=Retention)
    definitions: tuple[str, ...] = ()
    queue: str | None = None
    schema: str | None = None

    def __post_init__(self) -> None:
        for problem in self.problems():
            raise ConfigError(problem)

    def problems(self) -> list[str]:
        """Every contradiction among the settings, each with its cure."""
        return _contradictions({item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def from_mapping(cls, conf: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> CascadeConfig:
        """Read the `cascade_*` keys of a Celery configuration; the environment fills in what is not set.

        With a namespace (`config_from_object(..., namespace="CELERY")`) they are `CELERY_CASCADE_*`.

        Raises:
            ConfigError: an unknown key or a value of the wrong type, with the nearest right word.
        """
        values, wrong = _gather(conf, environ)
        for problem in wrong:
            raise ConfigError(problem)
        return cls(**values)


def problems_in(conf: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> list[str]:
    """Everything that is wrong with the `cascade_*` keys of a configuration, not the first only: for `doctor`."""
    values, wrong = _gather(conf, environ)
    defaults = {item.name: item.default for item in fields(CascadeConfig) if item.default is not MISSING}
    return [*wrong, *_contradictions(defaults | values)]


def _gather(conf: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The values that can be read, and what is wrong with the others."""
    known = [item.name for item in fields(CascadeConfig)]
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for key, value in _ours(conf).items():
        name = key.removeprefix(PREFIX)
        if name not in known:
            near = difflib.get_close_matches(key, [PREFIX + n for n in known], n=1)
            wrong.append(f"unknown setting {key}" + (f"; did you mean {near[0]}?" if near else ""))
        elif value not in (None, "") or name == "retention":
            try:
                values[name] = _read(name, value)
            except ConfigError as error:
                wrong.append(error.message)
    if "database_url" not in values and environ.get(URL_VARIABLE):
        values["database_url"] = environ[URL_VARIABLE]
    if "home" not in values and environ.get(HOME_VARIABLE):
        values["home"] = environ[HOME_VARIABLE]
    if "schema" not in values and environ.get(SCHEMA_VARIABLE):
        values["schema"] = environ[SCHEMA_VARIABLE]
    return values, wrong


def _ours(conf: Mapping[str, Any]) -> dict[str, Any]:
    """The `cascade_*` keys; Celery itself shows those of a namespace under their long names only."""
    keys = list(conf)  # a look makes Celery read its configuration; before that there is no namespace either
    namespace = (getattr(conf, "prefix", None) or "").lower()
    found = {}
    for key in keys:
        if key.startswith(PREFIX):
            found[key] = conf[key]
        elif namespace and isinstance(key, str) and key.lower().startswith(namespace + PREFIX):
            found[key[len(namespace) :].lower()] = conf[key]
    return found


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with readable values, alone or together, each with its cure."""
    found = [f"{PREFIX}{name} is {values[name]}; it must be more than 0" for name in _POSITIVE if not values[name] > 0]
    timeout, interval = values["heartbeat_timeout"], values["heartbeat_interval"]
    if timeout < 2 * interval:
        found.append(
            f"{PREFIX}heartbeat_timeout ({timeout:g} s) must be at least twice "
            f"{PREFIX}heartbeat_interval ({interval:g} s): one late beat would look like a death"
        )
    if values["schema"] is not None:
        problem = schema_problem(values["schema"], values["database_url"])
        found += [problem] if problem else []
    return found


_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


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


_POSITIVE = (
    "heartbeat_interval",
    "heartbeat_timeout",
    "timer_interval",
    "orphan_interval",
    "resend_after",
    "max_crashes",
    "max_payload_bytes",
    "max_definition_bytes",
    "database_patience",
)
_NUMBERS = frozenset(_POSITIVE)
_WHOLE = frozenset({"max_crashes", "max_payload_bytes", "max_definition_bytes"})
_FLAGS = frozenset({"auto_migrate"})


def _read(name: str, value: Any) -> Any:
    """One setting's value in its own type."""
    key = PREFIX + name
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise ConfigError(f"{key} is {value!r}; it must be True or False")
        return value
    if name in _NUMBERS:
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigError(f"{key} is {value!r}; it must be a number")
        if name in _WHOLE and value != int(value):
            raise ConfigError(f"{key} is {value!r}; it must be a whole number")
        return int(value) if name in _WHOLE else float(value)
    if name == "retention":
        return _read_retention(value)
    if name == "definitions":
        items = (value,) if isinstance(value, (str, Path)) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, (str, Path)) for item in items):
            raise ConfigError(f"{key} is {value!r}; it must be a list of glob patterns")
        return tuple(str(item) for item in items)
    if not isinstance(value, (str, Path)):
        raise ConfigError(f"{key} is {value!r}; it must be text")
    return str(value)


_MOST_DAYS = 1_000_000


def _read_retention(value: Any) -> Retention | None:
    """`None`, a Retention, or a mapping of its fields (ages as timedelta or days)."""
    if value is None or isinstance(value, Retention):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f"cascade_retention is {value!r}; it must be None, a Retention or a mapping of its fields")
    known = [item.name for item in fields(Retention)]
    parts: dict[str, Any] = {}
    for name, part in value.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            raise ConfigError(f"unknown key {name!r} in cascade_retention; did you mean {(near or known)[0]!r}?")
        is_days = name not in ("keep_last", "batch") and isinstance(part, (int, float)) and not isinstance(part, bool)
        parts[name] = timedelta(days=part) if is_days and abs(part) < _MOST_DAYS else part
    return Retention(**parts)
