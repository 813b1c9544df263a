"""Which session a task runs for: `current_session()` inside a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from celery_cascade.errors import UsageError
from celery_cascade.tasks.attempt import NO_ITEM
from celery_cascade.tasks.current import current_attempt
from celery_cascade.tasks.sharing import Shared, StepContext


@dataclass(slots=True, kw_only=True, unsafe_hash=True)  # frozen, it could have no setter
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
    _shared: Shared = field(repr=False, compare=False)

    @property
    def context(self) -> StepContext:
        """The session's variables as they were when this step first asked: a dict to read and to change.

        Changes, at any depth, are written by the step's checkpoint, as one; those of an attempt that fails, is
        retried, skipped or dies are dropped. Steps that run side by side do not get in each other's way: each writes
        what it has changed, key by key. Where two change the same key, the one that ends last wins; what both append
        to a list is all kept, and a counter that both raise counts one of them.

        Values are what the codec keeps: JSON, dates, Decimal, UUID, bytes. What cannot be stored, or is over
        `cascade_max_payload_bytes`, fails the step at its end, with the path or the largest key.

        Raises:
            StoreUnavailable: the first look found no store within `cascade_database_patience`.
        """
        return self._shared.context

    @context.setter
    def context(self, values: StepContext) -> None:
        # `current_session().context |= {…}` has changed it by the time that Python assigns the result here.
        if values is not self._shared.context:
            raise UsageError(
                f"session {self.id}: its context is not assigned as a whole",
                hint="Assign keys, or: context.clear(); context.update(…)",
            )

    @property
    def conversation_history(self) -> list[dict[str, Any]]:
        """What was said up to now, oldest first, this attempt's own messages included; read anew each time."""
        return self._shared.history

    def say(self, role: str, content: Any, **extra: Any) -> None:
        """Add a message to the session's conversation, with the step's checkpoint and not before.

        Args:
            role: who speaks, such as `assistant`; text of 1 to 50 characters.
            content: what the codec keeps: text, or a list or mapping of yours.
            extra: whatever else belongs to it.

        Raises:
            UsageError, NotSerializable, PayloadTooLarge: it cannot be stored.
        """
        self._shared.say(role, content, extra)


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
        _shared=attempt.shared,
    )
