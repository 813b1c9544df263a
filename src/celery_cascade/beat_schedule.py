"""The entries that Celery Beat runs for us (R154): `python beat_schedule.py` shows them.

They join the user's `beat_schedule` when Beat starts, whatever the order of configuration, and never replace a key of
the user's. Without Beat all is safe: workers do the same by themselves. With Beat, sessions also go on when they wait
for what no worker sees, and old ones are deleted.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from celery import signals
from celery.schedules import crontab

from celery_cascade.config import CascadeConfig
from celery_cascade.errors import CascadeError

logger = logging.getLogger("celery_cascade")

#: The defaults. An entry of one's own under the same key replaces one. `expires` is just under the interval, so that
#: a queue which nobody consumes does not fill up with what the next tick brings anyway.
beat_schedule: dict[str, dict[str, Any]] = {
    "celery_cascade.resume": {
        "task": "celery_cascade.resume",
        "schedule": 30.0,
        "options": {"expires": 25, "ignore_result": True},
    },
    "celery_cascade.expire": {
        "task": "celery_cascade.expire",
        "schedule": 60.0,
        "options": {"expires": 55, "ignore_result": True},
    },
    "celery_cascade.prune": {
        "task": "celery_cascade.prune",
        "schedule": crontab(minute="30", hour="3"),
        "options": {"expires": 12 * 3600, "ignore_result": True},
    },
}

_APPS: WeakSet[Any] = WeakSet()


def cascade_beat_schedule(app: Any) -> dict[str, dict[str, Any]]:
    """The entries for one app, from its settings: without a retention there is nothing to prune."""
    config = CascadeConfig.from_mapping(app.conf)
    entries = copy.deepcopy(beat_schedule)
    if config.retention is None:
        del entries["celery_cascade.prune"]
    return entries


def connect(app: Any) -> None:
    """Have the entries in place when a Beat of this app starts, be it a process of its own or a worker's (-B)."""
    _APPS.add(app)
    signals.import_modules.connect(on_import_modules, weak=False, dispatch_uid="celery_cascade.import_modules")
    signals.beat_init.connect(on_beat_init, weak=False, dispatch_uid="celery_cascade.beat_init")


def merge(app: Any) -> None:
    """Put those entries into `app.conf.beat_schedule` whose keys are not there."""
    users: Mapping[str, Any] = app.conf.beat_schedule or {}
    missing = {key: entry for key, entry in cascade_beat_schedule(app).items() if key not in users}
    if missing:
        app.conf.beat_schedule = {**users, **missing}


def on_import_modules(sender: Any = None, **_: Any) -> None:
    """Worker and Beat are about to import the task modules: the settings are complete, no scheduler was made yet.

    A scheduler that keeps its entries on disk (the default) would else forget at every start when it last ran ours.
    """
    if sender in _APPS:
        with suppress(CascadeError):  # a wrong setting: the worker, or Beat, is about to say so, and to end
            merge(sender)


def on_beat_init(sender: Any = None, **_: Any) -> None:
    """The last moment, for what replaced `beat_schedule` since. The scheduler is made already, so it is told too."""
    if sender.app not in _APPS:
        return
    try:
        merge(sender.app)
    except CascadeError as error:
        logger.critical("[cascade] Beat does not start: %s", error)
        raise SystemExit(error.exit_code) from error  # anything else Celery would log, and run on
    entries = {key: sender.app.conf.beat_schedule[key] for key in cascade_beat_schedule(sender.app)}
    absent = {key: entry for key, entry in entries.items() if key not in sender.scheduler.schedule}
    if absent:
        sender.scheduler.update_from_dict(absent)
    for key, entry in entries.items():
        logger.info("[cascade] beat runs %s", describe(key, entry))


def describe(key: str, entry: Mapping[str, Any]) -> str:
    """One line about an entry."""
    schedule = entry["schedule"]
    when = f"every {schedule:g} s" if isinstance(schedule, (int, float)) else str(schedule)
    expires = entry.get("options", {}).get("expires")
    return f"{key}: {when}" + (f", given up after {expires} s in the queue" if expires else "")


if __name__ == "__main__":
    sys.stdout.writelines(f"{describe(key, entry)}\n" for key, entry in beat_schedule.items())
