"""Which keys of a Celery configuration are ours, under whatever name Celery shows them, and which only look so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from celery_cascade.config.about import PREFIX, About
from celery_cascade.config.values import read_value
from celery_cascade.errors import ConfigError
from celery_cascade.words import nearest, words

#: What else of the environment is ours.
OTHER_VARIABLES = words(
    "CELERY_CASCADE_DEBUG CELERY_CASCADE_WORKER CELERY_CASCADE_QUIET CELERY_CASCADE_UTC CELERY_CASCADE_ASCII"
)

#: How other systems call what is a setting here.
_OTHER_WORDS = {
    "keep_last": "retention",
    "keep_last_n": "retention",
    "max_checkpoint_size_mb": "max_payload_bytes",
    "storage": "database_url",
    "storage_location": "database_url",
    "storage_type": "database_url",
    "store_url": "database_url",
    "task_queue": "queue",
}


class Found(NamedTuple):
    """What could be read, where it came from, and what is wrong with the rest; by name, without the prefix."""

    values: dict[str, Any]
    origins: dict[str, str]
    wrong: list[str]


def gather(conf: Mapping[str, Any], environ: Mapping[str, str], known: Mapping[str, About]) -> Found:
    """The settings that are made.

    Args:
        conf: Celery's.
        environ: fills in what the configuration does not set.
        known: every setting, without the prefix.
    """
    found = Found({}, {}, [])
    keys = list(conf)  # a look makes Celery read its configuration; before that there is no namespace either
    before = (getattr(conf, "prefix", None) or "").lower()
    for key in keys:
        name = _name(key, before) if isinstance(key, str) else None
        if name is not None:
            _take(found, key, name, conf[key], known)
        elif isinstance(key, str) and (right := _meant(key.lower(), known, guess=not before)):
            written = f"{before}{right}".upper() if before else right
            found.wrong.append(f"the setting {key} is not read under this name; write {written}")
    for name, about in known.items():
        if about.variable and name not in found.values and environ.get(about.variable):
            found.values[name] = environ[about.variable]
            found.origins[name] = about.variable
    return found


def _name(key: str, before: str) -> str | None:
    """A setting of ours without what stands before it. Celery shows those of a namespace under their long names."""
    if key.startswith(PREFIX):
        return key.removeprefix(PREFIX)
    if before and key.lower().startswith(before + PREFIX):
        return key.lower().removeprefix(before + PREFIX)
    return None


def _take(found: Found, key: str, name: str, value: Any, known: Mapping[str, About]) -> None:
    if name not in known:
        meant = _OTHER_WORDS.get(name) or nearest(name, known)
        start = key[: len(key) - len(name)]
        right = f"; did you mean {start}{meant.upper() if start.isupper() else meant}?" if meant else ""
        if name == "enabled":
            right = "; without Cascades(app), the app's tasks and workers are plain Celery"
        found.wrong.append(f"unknown setting {key}{right}")
    elif value not in (None, "") or known[name].part is not None:
        try:
            found.values[name] = read_value(key, known[name], value)
            found.origins[name] = key
        except ConfigError as error:
            found.wrong.append(error.message)


def _meant(key: str, known: Mapping[str, About], *, guess: bool) -> str | None:
    """The setting that a key in another spelling is meant to be, which would be passed over in silence.

    Args:
        key: in lower case.
        guess: whether the nearest counts; under a namespace the object holds settings of others too.
    """
    right = key.removeprefix("celery_")
    if not right.startswith(PREFIX):
        return None
    name = right.removeprefix(PREFIX)
    meant = name if name in known else nearest(name, known) if guess else None
    return None if meant is None else PREFIX + meant


def unread_variables(environ: Mapping[str, str], known: Mapping[str, About]) -> list[str]:
    """Variables of the environment that look like settings of ours but are not read; for `doctor`."""
    read = [about.variable for about in known.values() if about.variable]
    found = []
    for variable in sorted(environ):
        start, prefix, name = variable.partition("CASCADE_")
        if start not in ("", "CELERY_") or not prefix or variable in (*read, *OTHER_VARIABLES):
            continue
        if name.lower() in known:
            of = known[name.lower()].variable
            cure = f"write {of}" if of else f"set {PREFIX}{name.lower()} in the Celery configuration"
            found.append(f"{variable} is in the environment but is not read; {cure}")
        elif start and (meant := nearest(variable, read)):
            found.append(f"{variable} is in the environment but is not read; did you mean {meant}?")
    return found
