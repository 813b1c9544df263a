"""docs/settings.md out of the settings object: `python -m celery_cascade.cli.settings_page`, or `scripts/docs`."""

from __future__ import annotations

import dataclasses
import sys
from datetime import timedelta
from typing import Any

from celery_cascade.config import PREFIX, CascadeConfig, Retention
from celery_cascade.config.about import TYPES, About, settings_of

_HEAD = """\
# Settings

<!-- Made by scripts/docs out of celery_cascade.config; a test holds the two together. -->

Celery settings with the prefix `cascade_`: `app.conf.cascade_database_url = "postgresql://…"`, or wherever the app has
its configuration from. With a namespace, as in Django (`app.config_from_object("django.conf:settings",
namespace="CELERY")`), they are `CELERY_CASCADE_DATABASE_URL` and so on. Nothing has to be set.

A wrong key, a wrong value and a key in another spelling (`CASCADE_QUEUE`) stop the start, with the nearest right word.
`cascade doctor` tells all of them at once; `cascade doctor --settings` shows what holds and where it comes from.
"""


def page() -> str:
    """The whole page."""
    defaults = CascadeConfig()
    parts = [_HEAD, _table(defaults)]
    for name, about in settings_of(CascadeConfig).items():
        parts.append(_section(name, about, getattr(defaults, name)))
        if about.part is not None:
            parts.append(_fields(Retention()))
    return "\n".join(parts)


def _table(defaults: CascadeConfig) -> str:
    lines = ["| setting | default | |", "|---|---|---|"]
    for name, about in settings_of(CascadeConfig).items():
        shown = _shown(about, getattr(defaults, name))
        lines.append(f"| [`{PREFIX}{name}`](#{PREFIX}{name}) | {shown} | {about.doc} |")
    return "\n".join(lines) + "\n"


def _section(name: str, about: About, default: Any) -> str:
    lines = [f"## `{PREFIX}{name}`", "", about.doc, ""]
    lines += [f"- Value: {TYPES[about.kind]}. Default: {_shown(about, default)}."]
    if about.variable:
        lines += [f"- Environment: `{about.variable}`, read where the configuration does not set it."]
    lines += [f"- Change it when {about.change}", f"- Without it: {about.without}", ""]
    return "\n".join(lines)


def _fields(retention: Retention) -> str:
    lines = ["| field | default | what | change it when | without it |", "|---|---|---|---|---|"]
    for name, about in settings_of(Retention).items():
        shown = _shown(about, getattr(retention, name))
        lines.append(f"| `{name}` | {shown} | {about.doc} | {about.change} | {about.without} |")
    lines += [
        "",
        "An age is a `timedelta`, a number of days, or `None` = for ever:",
        "",
        "```python",
        'app.conf.cascade_retention = {"completed": 3, "failed": None, "keep_last": 100}',
        "```",
        "",
    ]
    return "\n".join(lines)


def _shown(about: About, value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return "`Retention()`"
    if isinstance(value, timedelta):
        return f"{value.days} days"
    if about.kind == "seconds":
        return f"{value:g} s"
    if about.kind == "bytes":
        return f"{value // 1024**2} MiB (`{value}`)"
    return f"`{value!r}`"


if __name__ == "__main__":
    sys.stdout.write(page())
