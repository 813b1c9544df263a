"""`session.context`: the session's variables as a mapping whose every change is a compare-and-set (R38, R42)."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from celery_cascade.errors import PayloadTooLarge, StaleState
from celery_cascade.persistence import codec
from celery_cascade.persistence.store import Store
from celery_cascade.persistence.tracked import TrackedDict, adopt


class Context(TrackedDict):
    """The variables of a session as they were at one version, and the way to change them.

    A dict. Each change, at any depth, is written at once: `ctx["n"] += 1`, `ctx["a"]["b"].append(1)`,
    `ctx.update(x=1, y=2)` are one write each. In a `with` block all changes are one write at its end, and none if the
    block raises. A change that leaves the same JSON behind writes nothing.

    A write says `WHERE version = …`: it counts only if nobody has changed the session since this object was read, and
    raises the version by one. Steps that end change the session too. Otherwise StaleState, and nothing is written;
    `session.context` reads anew, and `retry_stale` does it for you. Not for use by several threads at once.

    Values are what the codec keeps: JSON, dates, Decimal, UUID, bytes; tuples become lists.

    Attributes:
        version: the session's version that these values belong to.

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
        try:
            text = codec.encode_limited(self, what=self._what, limit=self._limit)
        except PayloadTooLarge as error:
            raise PayloadTooLarge(f"{error.message}; {self._largest()}", hint=error.hint) from None
        if text != self._stored:
            self.version = self._store.write_context(self._session_id, version=self.version, value=self)
            self._stored = text

    @property
    def _what(self) -> str:
        return f"context of session {self._session_id}"

    def _largest(self) -> str:
        sizes = {key: len(codec.encode(value, what=key)) for key, value in self.items()}
        key = max(sizes, key=sizes.__getitem__)
        return f"its largest entry is {key!r} with {sizes[key]:,}"
