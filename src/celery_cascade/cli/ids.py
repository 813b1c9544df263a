"""Which session is meant: a whole id, its first 6 characters or more, `@last`, `@last-failed`."""

from __future__ import annotations

from celery_cascade.errors import SessionConflict, SessionNotFound, UsageError
from celery_cascade.persistence.store import Store
from celery_cascade.persistence.views import SessionFilter
from celery_cascade.sessions.ids import look_up_id, may_be_session_id

SHORTEST = 6
_SHOWN = 10  # candidates named when a prefix is ambiguous


def session_id(store: Store, text: str) -> str:
    """The id that `text` means.

    Raises:
        SessionNotFound: there is none.
        SessionConflict: several begin so; names them.
        UsageError: a word with @ that we do not know.
    """
    if text.startswith("@"):
        return _by_word(store, text)
    try:
        store.head(look_up_id(store, text))
    except SessionNotFound:
        return _by_prefix(store, text)
    return text


def _by_word(store: Store, word: str) -> str:
    if word not in ("@last", "@last-failed"):
        raise UsageError(f"{word!r} names no session", hint="The words are @last and @last-failed; list: cascade ls")
    status = ["failed"] if word == "@last-failed" else None
    rows = store.sessions(SessionFilter(status=status, limit=1))
    if not rows:
        kind = "failed session" if status else "session"
        raise SessionNotFound(f"{word}: there is no {kind} yet", hint="List them with: cascade ls")
    found: str = rows[0]["session_id"]
    return found


def _by_prefix(store: Store, text: str) -> str:
    found: list[str] = []
    if len(text) >= SHORTEST and may_be_session_id(text):
        rows = store.sessions(SessionFilter(prefix=text, limit=200))
        found = [row["session_id"] for row in rows if row["session_id"].startswith(text)]  # LIKE may ignore case
    if len(found) == 1:
        return found[0]
    if found:
        more = f"\n… and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise SessionConflict(
            f"{len(found)} sessions have an id that begins with {text!r}",
            hint="Write more of it; there are:\n" + "\n".join(found[:_SHOWN]) + more,
        )
    try:
        store.head(look_up_id(store, text))  # raises, with the count of sessions (R114)
    except SessionNotFound as error:
        if 0 < len(text) < SHORTEST:
            hint = f"{error.hint}\nThe beginning of an id is enough from {SHORTEST} characters on"
            raise SessionNotFound(error.message, hint=hint) from None
        raise
    return text
