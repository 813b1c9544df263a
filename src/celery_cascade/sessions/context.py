"""`session.context`: the session's variables as a mapping whose every change is a compare-and-set (R38, R42)."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

from celery_cascade import deltas
from celery_cascade.errors import StaleState, StoreError
from celery_cascade.persistence import codec
from celery_cascade.persistence.checked import context_text
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.store import Store
from celery_cascade.persistence.tracked import TrackedDict, adopt
from celery_cascade.sessions.view import iso


class Context(TrackedDict):
    """The variables of a session as they were at one version, and the way to change them.

    A dict. Each change, at any depth, is written at once: `ctx["n"] += 1`, `ctx["a"]["b"].append(1)`,
    `ctx.update(x=1, y=2)` are one write each. In a `with` block all changes are one write at its end, and none if the
    block raises. A change that leaves the same values behind writes nothing.

    A write says `WHERE version = …`: it counts only if nobody has changed the session since this object was read, and
    raises the version by one. Steps that end change the session too. Otherwise StaleState, and nothing is written;
    `session.context` reads anew, and `retry_stale` does it for you. Not for use by several threads at once.

    Values are what the codec keeps: JSON, dates, Decimal, UUID, bytes; tuples become lists.

    Attributes:
        version: the session's version that these values belong to.
        actor: who changes it; set it to have that in `session.context_history`. None = not told.

    Raises (from every change):
        StaleState: somebody else changed the session.
        SessionConflict: the session is completed, cancelled or expired. A failed one may be changed before a resume.
        NotSerializable, PayloadTooLarge: the value cannot be stored; names the path to it.
    """

    def __init__(self, store: Store, session_id: str, limit: int) -> None:
        self._store = store
        self._session_id = session_id
        self._limit = limit
        self._blocks = 0
        self._given_up = False
        self.actor: str | None = None
        self.version, values = store.context(session_id)
        super().__init__(values)
        adopt(self)
        self._stored = codec.encode(self, what=self._what)

    def __enter__(self) -> Self:
        self._blocks += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks -= 1
        if self._blocks:
            return
        self._given_up = True  # unless it is written: what is in memory is not what is stored
        if error is None:
            self._save()
            self._given_up = False

    def changed(self) -> None:
        """Called by whatever in it has changed."""
        if self._given_up:
            raise StaleState(
                f"session {self._session_id}: changes of this context were given up; it is no longer what is stored",
                hint="Read session.context again",
            )
        if not self._blocks:
            self._save()

    def _save(self) -> None:
        text = context_text(self, self._what, self._limit)
        if text == self._stored:
            return
        value = json.loads(text)
        delta = deltas.diff(json.loads(self._stored), value)
        if delta:
            self.version = self._store.write_context(
                self._session_id, version=self.version, value=value, delta=deltas.written(delta), actor=self.actor
            )
        self._stored = text

    @property
    def _what(self) -> str:
        return f"context of session {self._session_id}"


def history(store: Store, session_id: str) -> list[dict[str, Any]]:
    """Who changed the context when, oldest first; see `Session.context_history`."""
    return [_entry(session_id, row) for row in store.context_changes(session_id)]


_WORDS = {deltas.SET: "set", deltas.ADD: "added", deltas.DELETE: "removed"}


def _entry(session_id: str, row: Row) -> dict[str, Any]:
    try:
        changes = [_change(*one) for one in json.loads(row["delta"])]
    except Exception as error:  # a registered type's decoder may raise anything
        raise StoreError(
            f"session {session_id}: the change of its context at version {row['version']} cannot be read: {error}",
            hint="Look at the store with: cascade doctor",
        ) from error
    return {
        "version": row["version"],
        "at": iso(row["set_at"]),
        "step": row["step"],
        "actor": row["actor"],
        "changes": changes,
    }


def _change(what: str, path: list[str], value: Any = None) -> dict[str, Any]:
    found = {"change": _WORDS[what], "path": path}
    return found if what == deltas.DELETE else found | {"value": codec.from_plain(value)}
