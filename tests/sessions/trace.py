"""A trace of a session, taken while it lives: what its state was after each transaction that made a version."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from celery_cascade import Session
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.store import Store
from sessions.kit import Kit

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class Trace:
    """Looks at the newest session after every commit of this thread.

    The store's clock goes on by a hundredth of a second at each look, so that no two moments are the same.
    """

    def __init__(self, kit: Kit, monkeypatch: Any) -> None:
        self.states: dict[str, dict[int, dict[str, Any]]] = {}
        self._kit, self._inside = kit, threading.local()
        ticks = itertools.count()
        clock = lambda: BEGINNING + timedelta(seconds=next(ticks) / 100)  # noqa: E731
        kit.runtime._store = Store(kit.store.database, clock=clock)
        for name in ("transaction", "single"):
            monkeypatch.setattr(Database, name, self._looking(getattr(Database, name)))

    def _looking(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def looking(database: Database, work: Callable[..., Any]) -> Any:
            result = original(database, work)
            if not getattr(self._inside, "now", False):
                self._inside.now = True
                try:
                    self._look()
                finally:
                    self._inside.now = False
            return result

        return looking

    def _look(self) -> None:
        for session_id, version in self._kit.sql("SELECT session_id, version FROM session_states"):
            seen = self.states.setdefault(session_id, {})
            if version not in seen:
                assert version == len(seen) + 1, f"{session_id} goes from version {len(seen)} to {version}"
                seen[version] = state_of(Session(self._kit.runtime, session_id))

    def check(self, session: Session) -> None:
        """What is made of the rows afterwards is what was seen then, at every version (R23)."""
        seen = self.states[session.id]
        history = session.history()
        assert history.latest == len(seen)
        for version, then in seen.items():
            now, then = comparable(history.at(version)), comparable(then)
            differs = {key: (now[key], then[key]) for key in then if now[key] != then[key]}
            assert not differs, f"version {version}: made of the rows, and as it was: {differs}"


def state_of(session: Session) -> dict[str, Any]:
    """All that is to be seen of a session now."""
    found = session.to_dict()
    return found | {
        "context": dict(session.context),
        "conversation_history": session.conversation_history,
        "attempts": [_attempt(row) for row in session.attempts],
    }


def _attempt(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("step", "attempt", "kind", "version"))


def comparable(state: dict[str, Any]) -> dict[str, Any]:
    """Without what passes between two versions: a claim makes none."""
    found = {key: value for key, value in state.items() if key != "updated_at"}
    if found["attempts"] and isinstance(found["attempts"][0], dict):
        found["attempts"] = [_attempt(row) for row in found["attempts"]]
    found["steps"] = [_step(step) for step in state["steps"]]
    return found


def _step(step: dict[str, Any]) -> dict[str, Any]:
    if step["status"] not in ("queued", "running"):
        return step
    return {**step, "status": "queued or running", "worker": None, "started_at": None}
