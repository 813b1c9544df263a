"""What `run --resume` may say besides: a session that goes on keeps what it was started with, so nothing else (D8)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celery_cascade.cli.words import printable
from celery_cascade.errors import SessionConflict
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions.ids import DEFAULT_RESOURCE

#: Name in `StartOptions` -> option of `run`.
_OPTIONS = {
    "name": "--name",
    "tags": "--tag",
    "thread_id": "--thread",
    "resource_id": "--resource",
    "queue": "--queue",
    "mode": "--mode",
    "expires_in": "--expires-in",
}


#: What counts at the start only: a session that goes on does not show any more what was said then.
_AT_THE_START = ("queue", "expires_in")


def at_the_start(given: Mapping[str, Any]) -> str | None:
    """What to say of options that only a new session minds: one line, a timer's, serves both. None = nothing."""
    options = [_OPTIONS[name] for name in _AT_THE_START if name in given]
    return f"It keeps its own: {' and '.join(options)} would count for a new session." if options else None


def check_kept(row: Row, given: Mapping[str, Any], *, go_on: str, anew: Sequence[str]) -> None:
    """Refuse what the session has not been started with; what it has, may be said again.

    Args:
        row: of the session that is to go on.
        given: what the command line says, by its name in `StartOptions`.
        go_on: the command line that goes on without that.
        anew: the words of one that starts a new session of the same files and inputs.

    Raises:
        SessionConflict: names the options, and the commands that do the one or the other.
    """
    other = [option for name, option in _OPTIONS.items() if name in given and not _same(row, name, given)]
    if other:
        raise SessionConflict(
            f"session {row['session_id']} keeps what it was started with, which is something else than "
            f"{', '.join(other)} say{'s' if len(other) == 1 else ''}",
            hint=f"Go on with it as it is: {go_on}\n"
            f"Start a new one with what you say: {printable(shlex.join([*anew, *_words(given)]))}\n"
            f"See what it was started with: cascade show {row['session_id']}",
        )


def _same(row: Row, name: str, given: Mapping[str, Any]) -> bool:
    """Whether a session has that already, or it is about the start only."""
    if name in _AT_THE_START:
        return True
    if name == "tags":
        return sorted(json.loads(row["tags"] or "[]")) == sorted(given["tags"])
    if name == "thread_id" and row["resource_id"] != given.get("resource_id", DEFAULT_RESOURCE):
        return False  # the same name of somebody else
    return bool(row[name] == given[name])


def _words(given: Mapping[str, Any]) -> Iterator[str]:
    for name, option in _OPTIONS.items():
        if name == "queue" and name in given:
            yield option
        elif name == "expires_in" and name in given:
            yield from (option, f"{given[name]:g}s")
        elif name in given:
            for value in given[name] if name == "tags" else [given[name]]:
                yield from (option, value)
