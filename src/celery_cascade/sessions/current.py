"""Which session a task runs for: `current_session()` inside a step."""

from __future__ import annotations

from dataclasses import dataclass

from celery_cascade.tasks.attempt import NO_ITEM
from celery_cascade.tasks.current import current_attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentSession:
    """The session, step and attempt that this code runs for.

    Attributes:
        id: the session.
        step: the step's id.
        item: its number among the items of a mapped step; None = not one of many.
        attempt: 1 for the first.
        idempotency_key: the same for every attempt of this step: hand it to whatever must not happen twice.
    """

    id: str
    step: str
    item: int | None
    attempt: int
    idempotency_key: str


def current_session() -> CurrentSession | None:
    """The session of the running step; None outside a step."""
    attempt = current_attempt()
    if attempt is None:
        return None
    ref = attempt.ref
    item = None if ref.item == NO_ITEM else ref.item
    return CurrentSession(
        id=ref.session,
        step=ref.step,
        item=item,
        attempt=ref.attempt,
        idempotency_key=f"{ref.session}:{ref.step}:{item or 0}",
    )
