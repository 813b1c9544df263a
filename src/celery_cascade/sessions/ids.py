"""Ids that users choose: checked before any write, never cut (DESIGN.md section 5)."""

from __future__ import annotations

import re
import uuid

from celery_cascade.errors import UsageError

_SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,36}")


def new_session_id() -> str:
    """A random id."""
    return str(uuid.uuid4())


def check_session_id(session_id: str) -> str:
    """The id, if it may be one. Raises UsageError with the rule."""
    if not isinstance(session_id, str) or not _SESSION_ID.fullmatch(session_id):
        raise UsageError(
            f"session id {session_id!r} is not possible: 1 to 36 characters of A-Z a-z 0-9 . _ : -",
            hint="Leave the id out to get a new one",
        )
    return session_id


def may_be_session_id(text: str) -> bool:
    """Whether the text could be a session id or the beginning of one."""
    return bool(_SESSION_ID.fullmatch(text))
