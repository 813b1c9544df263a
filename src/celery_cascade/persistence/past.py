"""All rows of one session, read once: what its past is made out of (R23)."""

from __future__ import annotations

from dataclasses import dataclass

from celery_cascade.persistence import context, messages, views
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A session's rows.

    The head was read first. What has changed since then shows in the other rows with a later version, and is left out.

    Attributes:
        session: the immutable part and the head.
        actions: what was asked, and what the engine noted.
        conversation: what was said in it, after what was said in the turns that it continues.
        changes: of its context.
    """

    session: Row
    steps: list[Row]
    attempts: list[Row]
    actions: list[Row]
    conversation: list[Row]
    changes: list[Row]

    @property
    def said(self) -> list[Row]:
        """What was said in this very session."""
        return [row for row in self.conversation if row["session_id"] == self.session["session_id"]]


def past_of(db: Database, session_id: str) -> Past:
    """Read them. Raises SessionNotFound."""
    return Past(
        session=views.session_row(db, session_id),
        steps=views.step_rows(db, session_id),
        attempts=views.attempt_rows(db, session_id),
        actions=views.noted_rows(db, session_id),
        conversation=messages.conversation(db, session_id),
        changes=list(context.change_rows(db, session_id)),
    )
