"""`cascade threads`: which session a conversation is in, by the users' own handles."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import Verb, VerbGroup, json_option
from celery_cascade.cli.problems import as_called
from celery_cascade.cli.tables import table
from celery_cascade.cli.words import is_json, local, out, out_json, printable, say
from celery_cascade.errors import SessionNotFound
from celery_cascade.sessions.ids import DEFAULT_RESOURCE
from celery_cascade.sessions.threads import MOST, Threads

F = TypeVar("F", bound=Callable[..., Any])

_EXAMPLE = (
    "celery -A proj cascade threads ls --resource ann",
    "celery -A proj cascade run chat.yaml -i message=hello --thread support-7 --resource ann",
)


@click.group(cls=VerbGroup, example=_EXAMPLE)
def threads() -> None:
    """Look at conversations by your own handles: a thread, and the resource (user, tenant) whose it is.

    `run --thread T --resource R` starts a conversation or continues it, and keeps by itself which session it is in. A
    thread of another resource is one that is not there.
    """


def _resource(function: F) -> F:
    return click.option(
        "--resource",
        metavar="NAME",
        default=DEFAULT_RESOURCE,
        show_default=True,
        help="Whose: a user, a tenant.",
    )(function)


@threads.command(cls=Verb, example=("celery -A proj cascade threads ls --resource ann",))
@_resource
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="WORD", help="Go on where the page before has ended.")
@json_option
def ls(resource: str, limit: int, cursor: str | None, as_json: bool) -> None:
    """List the threads of a resource, the one used last first."""
    page = _threads().list(resource, limit=limit, cursor=cursor)
    if is_json(click.get_current_context()):
        out_json({"threads": list(page), "count": len(page), "next_cursor": page.next_cursor})
    elif page:
        rows = [[printable(one["thread_id"]), one["session_id"], *_times(one)] for one in page]
        table(("THREAD", "SESSION", "CREATED", "LAST USED"), rows)
    else:
        say(f"No threads of {printable(resource)!r}.")
    if page.next_cursor is not None:
        say(
            as_called(f"There are more: cascade threads ls {_of(resource)} --limit {limit} --cursor {page.next_cursor}")
        )


@threads.command(cls=Verb, example=("celery -A proj cascade threads show support-7 --resource ann",))
@click.argument("thread", metavar="THREAD")
@_resource
@json_option
def show(thread: str, resource: str, as_json: bool) -> None:
    """Show one thread: its session, when it was created, and when it was last used."""
    found = _threads().metadata(thread, resource)
    if found is None:
        raise _not_found(thread, resource)
    _tell(found)


@threads.command(cls=Verb, example=("celery -A proj cascade threads save support-7 --resource ann 3f2a91",))
@click.argument("thread", metavar="THREAD")
@click.argument("session", metavar="ID")
@_resource
@json_option
def save(thread: str, session: str, resource: str, as_json: bool) -> None:
    """Point a thread at the session ID: the next run in it continues that one."""
    known = _threads()
    store = Caller.here().runtime.store
    known.save(thread, resource, session_id(store, session))
    _tell(known.metadata(thread, resource) or {})


@threads.command(cls=Verb, example=("celery -A proj cascade threads rm support-7 --resource ann",))
@click.argument("thread", metavar="THREAD")
@_resource
@json_option
def rm(thread: str, resource: str, as_json: bool) -> None:
    """Forget a thread; its session stays as it is. One that is not there is no error."""
    deleted = _threads().delete(thread, resource)
    if is_json(click.get_current_context()):
        out_json({"success": True, "deleted": deleted, "thread_id": thread, "resource_id": resource})
    words = "is forgotten" if deleted else "was not there"
    say(f"Thread {printable(thread)!r} of {printable(resource)!r} {words}.")


def _threads() -> Threads:
    return Caller.here().cascades.threads


def _tell(found: dict[str, Any]) -> None:
    if is_json(click.get_current_context()):
        out_json({"thread": found})
        return
    created, used = _times(found)
    for name, value in (
        ("Thread", printable(found["thread_id"])),
        ("Resource", printable(found["resource_id"])),
        ("Session", found["session_id"]),
        ("Created", created),
        ("Last used", used),
    ):
        out(f"{name:<10}{value}")


def _times(one: dict[str, Any]) -> tuple[str, str]:
    return local(one["created_at"]), local(one["updated_at"])


def _not_found(thread: str, resource: str) -> SessionNotFound:
    return SessionNotFound(
        f"thread {thread!r} of {resource!r} not found", hint=f"List them with: cascade threads ls {_of(resource)}"
    )


def _of(resource: str) -> str:
    return f"--resource{'=' if resource.startswith('-') else ' '}{shlex.quote(resource)}"
