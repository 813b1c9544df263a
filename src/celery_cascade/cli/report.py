"""`doctor --report`: one block for a bug report, without secrets (R145)."""

from __future__ import annotations

import platform
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields
from importlib import metadata
from typing import Any
from urllib.parse import unquote, urlsplit

from kombu.utils.url import maybe_sanitize_url

from celery_cascade.cli.findings import Check
from celery_cascade.cli.words import printable
from celery_cascade.config import CascadeConfig
from celery_cascade.errors import CascadeError
from celery_cascade.persistence import migrate
from celery_cascade.tasks.runtime import Runtime

_PACKAGES = ("celery-cascade", "celery", "kombu", "billiard", "SQLAlchemy", "alembic", "click", "psycopg", "PyMySQL",
             "redis", "amqp", "PyYAML", "Jinja2", "jsonschema")  # fmt: skip
_URLS = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")
_SETTINGS = ("task_acks_late", "task_always_eager", "task_default_queue", "task_reject_on_worker_lost", "task_routes",
             "worker_pool", "worker_concurrency", "worker_prefetch_multiplier", "imports", "include")  # fmt: skip
_SECRET = re.compile(r"pass|secret|token|credential|api_?key|private", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)([^\s/:@]*):([^\s/@]*)@")
_PARAMETER = re.compile(r"(?i)([?&;][^=&\s]*(?:pass|secret|token|key)[^=&\s]*=)[^&\s'\"]+")
_HIDDEN = "***"


def markdown(runtime: Runtime, found: Sequence[Check]) -> str:
    """The block, fenced, so that it can be pasted as it is."""
    lines = [
        line for part in (_versions(runtime), _settings(runtime), _store(runtime), _checks(found)) for line in part
    ]
    text = "\n".join(printable(line) for line in lines)
    return f"```text\n{_redacted(text, runtime)}\n```"


def _versions(runtime: Runtime) -> Iterator[str]:
    yield f"python       {platform.python_implementation()} {platform.python_version()}"
    yield f"system       {platform.platform()}"
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    yield f"packages     {', '.join(found)}"
    yield f"sqlite       {sqlite3.sqlite_version}"
    yield f"database     {_server(runtime)}"
    yield f"broker       {_broker(runtime)}"


def _server(runtime: Runtime) -> str:
    try:
        database = runtime.open_database()
        with database.read() as connection:
            info = connection.dialect.server_version_info or ()
            name = f"{connection.dialect.name} {'.'.join(map(str, info))}"
        database.dispose()
    except CascadeError as error:
        return f"not reached: {error.message}"
    return f"{name} at {database.shown}"


def _broker(runtime: Runtime) -> str:
    try:
        with runtime.app.connection_for_write() as connection:
            transport = connection.transport
            return f"{connection.as_uri()} ({transport.driver_name} {transport.driver_version()})"
    except Exception as error:  # noqa: BLE001  whatever a client says; the report must come
        return f"not reached: {type(error).__name__}: {error}"


def _settings(runtime: Runtime) -> Iterator[str]:
    conf = runtime.app.conf
    yield "settings"
    try:
        config = runtime.config
    except CascadeError as error:
        yield f"  not usable: {error.message}"
    else:
        for item in fields(CascadeConfig):
            value = getattr(config, item.name)
            if value != getattr(CascadeConfig(), item.name):
                yield f"  cascade_{item.name} = {_shown(item.name, value)}"
    for name in (*_URLS, *_SETTINGS):
        value = conf.get(name)
        if value not in (None, "", (), []):
            yield f"  {name} = {_shown(name, value)}"


def _shown(name: str, value: Any) -> str:
    if _SECRET.search(name):
        return _HIDDEN
    return maybe_sanitize_url(value) if isinstance(value, str) and "://" in value else repr(value)


def _store(runtime: Runtime) -> Iterator[str]:
    yield "store"
    try:
        store = runtime.store
        yield f"  schema {migrate.current(store.database)}, needed {migrate.head()}"
        counts = store.open_counts()
        yield f"  sessions: {', '.join(f'{status} {count}' for status, count in sorted(counts.items())) or 'none'}"
        for row in store.running_workers():
            yield f"  worker {row.nodename}, {row.pool}, heard {row.silent_for:.0f} s ago"
    except CascadeError as error:
        yield f"  {error.message}"


def _checks(found: Sequence[Check]) -> Iterator[str]:
    yield "checks"
    for check in found:
        yield f"  {check.state:<8} {check.name:<9} {check.message}"


def _redacted(text: str, runtime: Runtime) -> str:
    """The text without logins of URLs, and without the passwords that the settings hold, wherever they stand."""
    text = _PARAMETER.sub(rf"\1{_HIDDEN}", _LOGIN.sub(rf"\1:{_HIDDEN}@", text))
    for secret in sorted(_secrets(runtime), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _secrets(runtime: Runtime) -> set[str]:
    """Passwords of all URLs, and values of settings whose name says that they are secret."""
    found: set[str] = set()
    for name, value in runtime.app.conf.items():
        if not isinstance(value, str):
            continue
        if _SECRET.search(str(name)):
            found.add(value)
        for url in value.split(";") if "://" in value else ():
            found |= _password(url)
    with suppress(CascadeError):
        found |= _password(str(runtime.database_url))
    return {secret for secret in found if len(secret) > 3}


def _password(url: str) -> set[str]:
    try:
        password = urlsplit(url).password
    except ValueError:
        return set()
    return {password, unquote(password)} if password else set()
