"""What `run` may say of a new session besides its file and inputs: its thread, its mode, its time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

import click

from celery_cascade.cli.options import Duration


def starting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options; the verb gets them as `more`: those that were given, by their name in `StartOptions`."""

    @wraps(function)
    def verb(
        *args: Any,
        thread: str | None,
        resource: str | None,
        queue: bool,
        mode: str | None,
        expires_in: timedelta | None,
        **others: Any,
    ) -> Any:
        said = {
            "thread_id": thread,
            "resource_id": resource,
            "queue": queue or None,
            "mode": mode,
            "expires_in": None if expires_in is None else expires_in.total_seconds(),
        }
        return function(*args, more={name: value for name, value in said.items() if value is not None}, **others)

    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb


_OPTIONS = (
    click.option("--thread", metavar="NAME", help="A conversation of yours: begun by it, or continued."),
    click.option("--resource", metavar="NAME", help="Whose the thread is: a user, a tenant.  [default: default]"),
    click.option("--queue", is_flag=True, help="If the thread's session has not ended, wait for that and begin then."),
    click.option("--mode", metavar="WORD", help="A word of yours to filter by.  [default: cascade]"),
    click.option("--expires-in", type=Duration(), metavar="TIME", help="End it as expired if it is not done by then."),
)
