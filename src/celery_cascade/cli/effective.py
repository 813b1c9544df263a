"""`doctor --settings`: every setting, the value that holds, and where it comes from."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any, NoReturn

import click
from kombu.utils.url import maybe_sanitize_url

from celery_cascade.cli.tables import table
from celery_cascade.cli.words import is_json, out_json, printable
from celery_cascade.config import effective


def list_settings(conf: Any) -> NoReturn:
    """Write the list and exit; what cannot be read is left out here, the checks tell it."""
    found = effective(conf)
    if is_json(click.get_current_context()):
        out_json(
            {"settings": {key: {"value": _plain(value), "from": origin} for key, (value, origin) in found.items()}}
        )
    else:
        rows = [[key, printable(_shown(value)), origin] for key, (value, origin) in found.items()]
        table(["SETTING", "VALUE", "FROM"], rows)
    raise click.exceptions.Exit(0)


def _plain(value: Any) -> Any:
    """As JSON knows it; seconds for spans of time, no password (R145)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):
        return list(value)
    return str(maybe_sanitize_url(value)) if isinstance(value, str) and "://" in value else value


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return " ".join(f"{one.name}={_shown(getattr(value, one.name))}" for one in dataclasses.fields(value))
    if isinstance(value, timedelta):
        return f"{value / timedelta(days=1):g} d"
    if isinstance(value, float):
        return f"{value:g} s"
    plain = _plain(value)
    return " ".join(map(str, plain)) or "-" if isinstance(plain, list) else "-" if plain is None else str(plain)
