"""What people ask for as a filter, checked; the same for Python, the command line and the HTTP API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from celery_cascade.errors import UsageError
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.sessions.cursor import place_in
from celery_cascade.sessions.ids import check_text, words_of
from celery_cascade.sessions.needles import needles
from celery_cascade.states import STATUS_ALIASES, SessionStatus
from celery_cascade.words import shown, suggestion

Moment = datetime | timedelta
#: Filters that are one word each, and how long it may be.
_WORDS = {
    "cascade": 255,
    "step": 50,
    "mode": 50,
    "thread_id": 255,
    "resource_id": 255,
    "parent": 36,
    "root": 36,
    "forked_from": 36,
    "error": 10_000,
}
_FILTERS = ("status", "tag", "since", "until", "inputs", *_WORDS)


def session_filter(
    *,
    status: str | Sequence[str] | None = None,
    tag: str | Sequence[str] | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    inputs: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None = None,
    limit: int = 50,
    cursor: str | None = None,
    **words: Any,
) -> SessionFilter:
    """The filter that is meant; see `Cascades.sessions`.

    Raises:
        UsageError: there is no such filter, or a value cannot be what it is given for.
    """
    for name, value in words.items():
        if name not in _WORDS:
            raise UsageError(
                f"{name!r} is no filter{suggestion(name, _FILTERS)}", hint=f"One of: {', '.join(_FILTERS)}"
            )
        check_text(value, name, _WORDS[name])
    tags = words_of(tag, "tag") or []
    for one in tags:
        check_text(one, "tag", 255)
    statuses = words_of(status, "status")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise UsageError(f"limit is {limit!r}; it must be a whole number, 0 or more")
    found = SessionFilter(
        status=None if statuses is None else [status_word(word) for word in statuses],
        tags=tuple(dict.fromkeys(tags)),
        since=_moment(since, "since"),
        until=_moment(until, "until"),
        inputs=_groups(inputs),
        limit=limit,
        **words,
    )
    return found if cursor is None else replace(found, before=place_in(found, cursor))


def status_word(word: str) -> str:
    """A session status by our word or another system's. Raises UsageError with the words there are."""
    if word in STATUS_ALIASES:
        return STATUS_ALIASES[word].value
    try:
        return SessionStatus(word).value
    except ValueError:
        words = ", ".join(member.value for member in SessionStatus)
        raise UsageError(f"{word!r} is no session status", hint=f"One of: {words}") from None


def _moment(given: Any, name: str) -> datetime | None:
    if isinstance(given, timedelta):
        try:
            return datetime.now(UTC) - given
        except OverflowError:
            raise UsageError(f"{name} is {given!r}; there was no time so long ago") from None
    if given is not None and (not isinstance(given, datetime) or given.tzinfo is None):
        raise UsageError(
            f"{name} is {given!r}; it must bear its time zone",
            hint="For example: datetime.now(UTC), or timedelta(hours=2) for two hours ago",
        )
    return given


def _groups(given: Any) -> tuple[tuple[str, ...], ...]:
    if given is None:
        return ()
    every = [given] if isinstance(given, (str, Mapping)) else given
    if not isinstance(every, (list, tuple)):
        raise UsageError(f"inputs is {shown(given)}; it must be a text to look for, or a mapping of inputs")
    return tuple(tuple(group) for one in every for group in needles(one))
