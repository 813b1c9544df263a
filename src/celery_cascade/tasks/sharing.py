"""What a step shares with its session: changes of the context and messages, kept until its checkpoint commits them.

They belong to one attempt. If it fails, is retried, skipped or dies, they are gone with it, so that an attempt that
runs again begins with what is stored (D11).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from celery_cascade import deltas
from celery_cascade.errors import StoreError
from celery_cascade.persistence import codec
from celery_cascade.persistence.checked import as_said, context_text, new_message
from celery_cascade.persistence.rows import NewMessage, Row
from celery_cascade.persistence.tracked import TrackedDict, adopt
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.runtime import Runtime


def history_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Stored messages as they were said. Raises StoreError with the session and the number of one that is damaged."""
    said = []
    for row in rows:
        try:
            said.append(as_said(row["role"], row["content"], row["extra"]))
        except StoreError as error:
            where = f"session {row['session_id']}: message {row['seq']}"
            raise StoreError(f"{where}: {error.message}", hint=error.hint) from error
    return said


class StepContext(TrackedDict):
    """The session's variables as they were when the step first asked, a dict. What changes is written at the end."""

    def __init__(self, values: dict[str, Any], what: str) -> None:
        super().__init__(values)
        self._read = codec.encode(values, what=what)
        adopt(self)

    def changed(self) -> None:
        """Called by whatever in it has changed; looked at when the step has ended."""

    def delta(self, what: str, limit: int) -> str | None:
        """What has changed since it was read, None if nothing. Raises NotSerializable or PayloadTooLarge."""
        text = context_text(self, what, limit)
        if text == self._read:
            return None
        delta = deltas.diff(json.loads(self._read), json.loads(text))
        return deltas.written(delta) if delta else None


class Shared:
    """One attempt's share.

    Args:
        runtime: of the app.
        session_id: whose context and conversation they are.
    """

    def __init__(self, runtime: Runtime, session_id: str) -> None:
        self._runtime = runtime
        self._session_id = session_id
        self._context: StepContext | None = None
        self._said: list[NewMessage] = []

    @property
    def context(self) -> StepContext:
        """The same object each time that the step asks."""
        if self._context is None:
            _, values = self._asked(lambda: self._runtime.store.context(self._session_id), "context")
            self._context = StepContext(values, self._what)
        return self._context

    @property
    def history(self) -> list[dict[str, Any]]:
        """What is stored of the conversation, and what the step has said since."""
        stored = self._asked(lambda: self._runtime.store.conversation(self._session_id), "conversation")
        return history_of(stored) + [as_said(one.role, one.content, one.extra) for one in self._said]

    def say(self, role: str, content: Any, extra: dict[str, Any]) -> None:
        """Add a message; see `new_message` for what is refused."""
        self._said.append(new_message(role, content, extra, self._runtime.config.max_payload_bytes))

    def changes(self) -> dict[str, Any]:
        """Fields of the `Checkpoint` that is to write it. Raises NotSerializable or PayloadTooLarge."""
        found: dict[str, Any] = {"messages": tuple(self._said)} if self._said else {}
        if self._context is not None:
            found["context_delta"] = self._context.delta(self._what, self._runtime.config.max_payload_bytes)
        return found

    @property
    def _what(self) -> str:
        return f"context of session {self._session_id}"

    def _asked(self, look: Any, what: str) -> Any:
        return patiently(look, seconds=self._runtime.config.database_patience, what=what)
