"""Which sessions a verb is about: the options of `ls`, and of every verb that acts on many."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, TypeVar

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import Duration, status_option
from celery_cascade.errors import SessionNotFound

F = TypeVar("F", bound=Callable[..., Any])


class Moment(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.4
    """`2026-05-17`, `2026-05-17T08:30`, with or without a zone (local), or `2h`: so long ago."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        """The moment, or how long ago it was."""
        if isinstance(value, (datetime, timedelta)):
            return value
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            pass
        try:
            return Duration().convert(value, None, None)
        except click.BadParameter:
            rule = "write 2026-05-17, 2026-05-17T08:30, or 2h, 7d for so long ago"
            self.fail(f"{value!r} is no time; {rule}", param, ctx)


_STATUS = "Only these: active, suspended, completed, failed, cancelled, expired; may be given several times."
#: Parameter -> option, metavar, several?, help.
_OPTIONS: dict[str, tuple[str, str, bool, str]] = {
    "cascade": ("--cascade", "NAME", False, "Of this cascade."),
    "step": ("--step", "STEP", False, "Standing at this step: queued, running, waiting, parked or failed there."),
    "tag": ("--tag", "WORD", True, "With this tag; several times: with all of them."),
    "resource_id": ("--resource", "ID", False, "Of this resource."),
    "thread_id": ("--thread", "ID", False, "Of this thread."),
    "parent": ("--parent", "ID", False, "Children of this session."),
    "root": ("--root", "ID", False, "It, and all that its steps have started; forks are other trees."),
    "forked_from": ("--fork-of", "ID", False, "Forks and reruns of this session."),
    "since": ("--since", "TIME", False, "Begun then or later: 2026-05-17, 2026-05-17T08:30, or 2h, 7d ago."),
    "until": ("--until", "TIME", False, "Begun before then."),
    "inputs": ("--input", "TEXT", True, "Whose inputs contain this text; KEY=VALUE finds an input by its value."),
    "error": ("--error", "TEXT", False, "Whose error contains this text."),
    "mode": ("--mode", "WORD", False, "Of this mode."),
}
_SESSIONS = ("parent", "root", "forked_from")
_MOMENTS = ("since", "until")


def filter_options(function: F) -> F:
    """Options for every filter; the verb gets them as `wanted`, a SessionFilter."""

    @wraps(function)
    def filtered(*args: Any, status: list[str] | None, **given: Any) -> Any:
        from celery_cascade.sessions.finding import session_filter  # with the database layer

        asked: dict[str, Any] = {name: None if (value := given.pop(name)) == () else value for name in _OPTIONS}
        for name in _SESSIONS:
            asked[name] = None if asked[name] is None else _session(asked[name])
        return function(*args, wanted=session_filter(status=status, **asked), **given)

    decorated: Any = filtered
    for name, (option, metavar, several, words) in reversed(_OPTIONS.items()):
        kind = Moment() if name in _MOMENTS else str
        decorated = click.option(option, name, metavar=metavar, multiple=several, type=kind, help=words)(decorated)
    return status_option(_STATUS)(decorated)  # type: ignore[no-any-return]


def _session(text: str) -> str:
    """A session named as everywhere; one that is gone may have forks and children still."""
    try:
        return session_id(Caller.here().runtime.store, text)
    except SessionNotFound:
        if text.startswith("@"):
            raise
        return text
