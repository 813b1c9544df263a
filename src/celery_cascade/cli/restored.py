"""What a resume says of the checkpoints that it goes on from (R72, R76)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from celery_cascade.cli.words import counted
from celery_cascade.sessions.checkpoints import Checkpoint

#: Steps that are named; of more, the last ones.
MOST_STEPS = 10


def before(session_id: str, found: Sequence[Checkpoint]) -> Iterator[str]:
    """What is there to go on from.

    Args:
        session_id: whose they are.
        found: its checkpoints, oldest first.
    """
    if not found:
        yield f"No program checkpoints found for session {session_id}: none of its steps has ended yet."
        return
    yield f"Found program checkpoint: {found[-1].name(session_id)}"
    yield f"Session: {session_id}"
    last = [one.unit for one in found[-MOST_STEPS:]]
    cut = f" (the last {len(last)} of {len(found):,})" if len(last) < len(found) else ""
    yield f"Steps to restore: {last}{cut}"


def after(session_id: str, found: Sequence[Checkpoint]) -> Iterator[str]:
    """That it goes on from there."""
    if not found:
        return
    for one in found[-MOST_STEPS:]:
        yield f"{one.unit} restored from {one.name(session_id)}"
    yield "Program restored successfully"
    yield f"{len(found):,}/{counted(len(found), 'step')} restored."
