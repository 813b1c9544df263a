"""How many of a session's steps that were in flight go on again: `3/3 steps restored` (R71)."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from celery_cascade.errors import CascadeError
from celery_cascade.persistence.rows import NO_ITEM, Orphan, StepKey
from celery_cascade.states import StepStatus
from celery_cascade.tasks.runtime import Runtime

logger = logging.getLogger("celery_cascade")

#: Lines that one look for orphans writes at most.
MOST_LINES = 20


def tell(runtime: Runtime, orphans: Iterable[Orphan]) -> None:
    """Log it for each session of which a look found steps without a worker; each goes on from its own checkpoint.

    What is said is what the store says afterwards, whoever gave a step back: another recovery may have been first.
    """
    found: dict[str, list[Orphan]] = {}
    for orphan in orphans:
        found.setdefault(orphan.key.session_id, []).append(orphan)
    for session_id, lost in list(found.items())[:MOST_LINES]:
        try:
            _tell(runtime, session_id, lost)
        except CascadeError as error:  # a word for people: it never stops what it is about
            logger.debug("session %s: what was restored is not known: %s", session_id, error)


def _tell(runtime: Runtime, session_id: str, lost: list[Orphan]) -> None:
    now = {StepKey(session_id, row["step"], row["item"]): row for row in runtime.store.step_changes(session_id, -1)}
    back, left = [], []
    for orphan in lost:
        row = now.get(orphan.key)
        if row is not None and row["attempt"] > orphan.attempt and row["status"] != StepStatus.PENDING:
            back.append(_name(orphan.key))
        elif row is None or row["status"] != StepStatus.RUNNING:  # else it has a worker after all
            left.append(_name(orphan.key))
    if back or left:
        named = f": {', '.join(back)}" if back else ""
        more = f"; not restored: {', '.join(left)}" if left else ""
        logger.info("session %s: %d/%d steps restored%s%s", session_id, len(back), len(back) + len(left), named, more)


def _name(key: StepKey) -> str:
    return key.step if key.item == NO_ITEM else f"{key.step}[{key.item}]"
