"""keep() and delete() of a session (D9, D10)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from celery_cascade import Session
from celery_cascade.errors import SessionConflict, SessionNotFound
from sessions.kit import Kit


def hinted(error: SessionConflict) -> list[str]:
    """The commands that an error names."""
    return re.findall(r"cascade (.+)$", error.hint, re.MULTILINE)


def child(kit: Kit, parent: Session, *, root: Session | None = None) -> Session:
    """A session that another one started."""
    kit.sql("DROP TRIGGER IF EXISTS cascade_sessions_are_immutable")
    made = kit.run("a")
    kit.sql(
        "UPDATE cascade_sessions SET parent_session_id = :parent, root_session_id = :root, depth = 1 "
        "WHERE session_id = :id",
        parent=parent.id, root=(root or parent).id, id=made.id,
    )  # fmt: skip
    return made


def test_a_kept_session_says_so_and_who_did_it(any_kit: Kit) -> None:
    """D9: keep(), and how to undo it, recorded as what operators do is."""
    session = any_kit.run("a")
    assert session.to_dict()["kept"] is False
    assert session.keep(actor="ann", reason="for the audit") is True
    assert session.keep() is False
    assert session.to_dict()["kept"] is True
    assert session.keep(False) is True
    assert session.to_dict()["kept"] is False
    done = [(row["action"], row["actor"], row["reason"]) for row in any_kit.store.actions(session.id)]
    assert done == [("keep", "ann", "for the audit"), ("unkeep", None, None)]


def test_a_session_that_runs_can_be_kept_for_later(kit: Kit) -> None:
    session = kit.start("a")
    session.keep()
    kit.deliver()
    assert session.status == "completed"
    assert session.to_dict()["kept"] is True


def test_what_is_not_there_can_neither_be_kept_nor_deleted(any_kit: Kit) -> None:
    """D10: not found."""
    gone = any_kit.run("a")
    assert gone.delete() == [gone.id]
    for act in (gone.keep, gone.delete, Session(any_kit.runtime, "nobody").delete):
        with pytest.raises(SessionNotFound):
            act()


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired", "suspended"])
def test_whatever_does_not_run_can_be_deleted(kit: Kit, status: str, caplog: pytest.LogCaptureFixture) -> None:
    """D10. A suspended session too: nothing of it runs, and whoever names it means it."""
    session = kit.run("a") if status == "completed" else kit.run({"id": "a", "task": "broken"})
    if status in ("cancelled", "suspended", "expired"):
        session = kit.start("a", expires_in=60)
        if status == "expired":
            kit.sql("UPDATE session_states SET expires_at = '2001-01-01 00:00:00.000000' WHERE session_id = :id",
                    id=session.id)  # fmt: skip
            kit.app.tasks["celery_cascade.expire"]()
        else:
            session.cancel() if status == "cancelled" else session.suspend()
    assert session.status == status
    with caplog.at_level(logging.INFO, "celery_cascade"):
        assert session.delete(actor="ann") == [session.id]
    assert f"session {session.id} is deleted (1 in all) by ann" in caplog.text
    with pytest.raises(SessionNotFound):
        _ = session.status
    kit.deliver()  # its message may still be out: nobody stumbles over it


def test_an_active_session_is_not_deleted(any_kit: Kit) -> None:
    """D10: conflict, with the command that cancels it."""
    session = any_kit.start("a")
    with pytest.raises(SessionConflict, match="is active") as found:
        session.delete()
    assert hinted(found.value) == [f"cancel {session.id}"]
    session.cancel()
    assert session.delete() == [session.id]


def test_one_that_is_being_cancelled_is_waited_for(kit: Kit) -> None:
    """D10: a step of it still runs."""
    refused: list[Any] = []

    @kit.task("cancels")
    def cancels() -> None:
        session.cancel()
        with pytest.raises(SessionConflict, match="about to be cancelled, but a step still runs") as found:
            session.delete()
        refused.extend(hinted(found.value))

    session = kit.start({"id": "a", "task": "cancels"})
    kit.deliver()
    assert refused == [f"watch {session.id}"]
    assert session.delete() == [session.id]


def test_a_kept_session_is_not_deleted(kit: Kit) -> None:
    """D9, D10: the pin says that somebody needs it."""
    session = kit.run("a")
    session.keep()
    with pytest.raises(SessionConflict, match="is kept") as found:
        session.delete()
    assert hinted(found.value) == [f"keep --undo {session.id}"]
    session.keep(False)
    assert session.delete() == [session.id]


def test_a_tree_is_deleted_with_its_root_and_only_so(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """D9, D10: whole or not at all."""
    kit = make_kit(sqlite_store)
    root, other = kit.run("a"), kit.run("a")
    middle = child(kit, root)
    leaf = child(kit, middle, root=root)
    with pytest.raises(SessionConflict, match=f"belongs to session {root.id}") as found:
        leaf.delete()
    assert hinted(found.value) == [f"rm {root.id}"]
    leaf.keep()
    with pytest.raises(SessionConflict, match=f"{leaf.id}, a descendant of {root.id}, is kept"):
        root.delete()
    leaf.keep(False)
    assert sorted(root.delete()) == sorted([root.id, middle.id, leaf.id])
    assert [one.id for one in kit.cascades.sessions()] == [other.id]


def test_an_active_descendant_keeps_its_root(kit: Kit) -> None:
    root = kit.start("a")
    lives = child(kit, root)
    with pytest.raises(SessionConflict):
        lives.delete()
    with pytest.raises(SessionConflict, match="is active"):
        root.delete()
    assert len(list(kit.cascades.sessions())) == 2


def test_a_session_without_its_root_can_be_deleted(kit: Kit) -> None:
    """Somebody deleted the root with a SQL client."""
    root = kit.run("a")
    one = child(kit, root)
    kit.store.delete_session(root.id)
    assert one.delete() == [one.id]
