"""Ids that users choose: checked before any write, never cut (DESIGN.md section 5)."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from typing import Any

from celery_cascade.errors import UsageError
from celery_cascade.persistence.store import Store
from celery_cascade.persistence.views import not_found
from celery_cascade.words import shown

#: Whose a thread is, where nobody says.
DEFAULT_RESOURCE = "default"

#: What people read, and nothing is told apart by. Of any other text a blank at its end is refused: MySQL and MariaDB
#: hold it for the one without, other databases do not.
_FOR_PEOPLE = frozenset({"name", "reason", "actor", "error", "inputs"})
_SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,36}")


def new_session_id() -> str:
    """A random id."""
    return str(uuid.uuid4())


def id_or_new(given: str | None) -> str:
    """The id that a caller gives to a new session, or a random one. Raises UsageError: it can be none."""
    return new_session_id() if given is None else check_session_id(given)


def check_session_id(session_id: str) -> str:
    """The id, if it may be one. Raises UsageError with the rule."""
    if not isinstance(session_id, str) or not _SESSION_ID.fullmatch(session_id):
        raise UsageError(
            f"session id {session_id!r} is not possible: 1 to 36 characters of A-Z a-z 0-9 . _ : -",
            hint="Leave the id out to get a new one",
        )
    return session_id


def storable(text: str) -> bool:
    """Whether every database takes the text: no NUL, no half of a character."""
    return "\x00" not in text and all(not "\ud800" <= char <= "\udfff" for char in text)


def look_up_id(store: Store, session_id: str) -> str:
    """An id to look for: any text that may be in the store.

    Raises:
        SessionNotFound: no session can have this id.
        UsageError: it is no text.
    """
    if not isinstance(session_id, str):
        raise UsageError(f"a session's id is text, not {shown(session_id)}", hint="List them with: cascade ls")
    if storable(session_id) and not session_id.endswith(" "):
        return session_id
    raise not_found(store.database, ascii(session_id))


def check_text(value: Any, name: str, longest: int) -> None:
    """Refuse what cannot be stored. Raises UsageError with the rule."""
    if value is None:
        return
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise UsageError(f"{name} is {shown(value)}; it must be text of 1 to {longest:,} characters")
    if not storable(value):
        raise UsageError(f"{name} is {value!a}; NUL and halves of characters cannot be stored")
    if name not in _FOR_PEOPLE and value.endswith(" "):
        raise UsageError(f"{name} is {shown(value)}; with a blank at its end it is the same to MySQL as without")


def check_names(**names: Any) -> None:
    """Refuse what cannot be a thread or whose it is. Raises UsageError with the rule."""
    for name, value in names.items():
        if value is None:
            raise UsageError(f"{name} is missing; a thread is named by its own id and by whose it is")
        check_text(value, name, 255)


def check_seconds(value: Any, name: str) -> float | None:
    """A wait in seconds; None = for ever. Raises UsageError with the rule."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise UsageError(f"{name} is {shown(value)}; it must be seconds, 0 or more, or None for as long as it takes")
    return float(value)


def words_of(given: Any, name: str) -> list[str] | None:
    """One word or several; None = any. Raises UsageError."""
    if given is None:
        return None
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, (list, tuple, set, frozenset)) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"{name} is {shown(given)}; it must be a word or a list of words")
    return list(words)


def may_be_session_id(text: str) -> bool:
    """Whether the text could be a session id or the beginning of one."""
    return bool(_SESSION_ID.fullmatch(text))
