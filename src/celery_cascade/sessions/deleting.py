"""Deleting sessions by hand (D10): a tree goes whole, what runs and what is kept stays."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from celery_cascade.errors import SessionConflict
from celery_cascade.persistence.deleting import Member
from celery_cascade.sessions.ids import look_up_id
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.turns import begin_turns

logger = logging.getLogger("celery_cascade")


def refuse(session_id: str, tree: Sequence[Member]) -> None:
    """Raise what forbids the deletion of a session with its tree.

    A suspended session may go: nothing of it runs, and whoever names it means it. A kept one may not: the pin says
    that somebody needs it.

    Raises:
        SessionConflict: with the command that helps.
    """
    root = tree[0].root
    if session_id != root and any(one.session_id == root for one in tree):
        raise SessionConflict(
            f"session {session_id} belongs to session {root}; a tree of sessions is deleted whole",
            hint=f"Delete all of it with: cascade rm {root}",
        )
    for one in tree:
        where = "" if one.session_id == session_id else f", a descendant of {session_id},"
        if one.status == "active" and one.halt is not None:
            raise SessionConflict(
                f"session {one.session_id}{where} is about to be {one.halt}, but a step still runs",
                hint=f"Wait for its end with: cascade watch {one.session_id}",
            )
        if one.status == "active":
            raise SessionConflict(
                f"session {one.session_id}{where} is active; it cannot be deleted",
                hint=f"End it first with: cascade cancel {one.session_id}",
            )
        if one.pinned:
            raise SessionConflict(
                f"session {one.session_id}{where} is kept; it cannot be deleted",
                hint=f"Let it go first with: cascade keep --undo {one.session_id}",
            )


def whole_tree(runtime: Runtime, session_id: str) -> list[str]:
    """Everything that a deletion of this session would take. Raises as `delete`."""
    tree = runtime.store.tree(look_up_id(runtime.store, session_id))
    refuse(session_id, tree)
    return [one.session_id for one in tree]


def delete(runtime: Runtime, session_id: str, *, actor: str | None = None) -> list[str]:
    """Delete a session with its descendants; the ids that are gone.

    Raises:
        SessionNotFound: no such session.
        SessionConflict: it, or a descendant, is active or kept; or it is itself a descendant.
    """
    gone = runtime.store.delete_tree(look_up_id(runtime.store, session_id), lambda tree: refuse(session_id, tree))
    begin_turns(runtime, runtime.store.turns_after_gone(gone))
    logger.info("session %s is deleted (%d in all) by %s", session_id, len(gone), actor or "somebody")
    return gone
