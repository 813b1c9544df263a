"""What a session's rows tell of its versions afterwards must be what was seen when each of them was made (R23).

Clocks step here, so only what needs no times is compared: where the session stood, and which steps had ended how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery_cascade.definition.plan import Plan
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.store import Store
from celery_cascade.sessions.history import History

Seen = tuple[str, dict[str, tuple[str, int]]]
FINAL = ("succeeded", "skipped", "failed", "cancelled")


class Hindsight:
    """The states of one history's sessions, each as it was when its version was made.

    Args:
        wrong: told what is wrong.
    """

    def __init__(self, wrong: Callable[[str], None]) -> None:
        self._wrong = wrong
        self._seen: dict[str, dict[int, Seen]] = {}

    def look(self, heads: Mapping[str, Any], rows: Mapping[tuple[str, str], Any]) -> None:
        """After a commit."""
        for session, head in heads.items():
            seen = self._seen.setdefault(session, {})
            if head.version not in seen:
                ended = {
                    step: (row.status, row.attempt)
                    for (one, step), row in rows.items()
                    if one == session and row.status in FINAL
                }
                seen[head.version] = (head.status, ended)

    def check(self, session: str, database: Database, plan: Plan) -> None:
        """Once it has ended."""
        store = Store(database)
        past = store.past(session)
        bearers = [*past.steps, *past.attempts, *past.actions]
        borne = {row["version"] for row in bearers}
        if past.session["status"] == "completed":
            borne.add(past.session["version"])
        if missing := set(range(2, past.session["version"] + 1)) - borne:
            self._wrong(f"no row of {session} bears the versions {sorted(missing)}")
        history = History(past, plan, store.now())
        for version, (status, ended) in sorted(self._seen[session].items()):
            state = history.at(version)
            told = {one["step"]: (one["status"], one["attempt"]) for one in state["steps"] if one["status"] in FINAL}
            then = {step: (status, _shown(attempt, told.get(step))) for step, (status, attempt) in ended.items()}
            if (state["status"], told) != (status, then):
                said = f"{state['status']} with {told}"
                self._wrong(f"{session} was {status} with {then} at version {version}; its rows say {said}")


def _shown(attempt: int, told: tuple[str, int] | None) -> int:
    """A step that never began shows no attempt, though its row counts from 1."""
    return 0 if told is not None and told[1] == 0 and attempt == 1 else attempt
