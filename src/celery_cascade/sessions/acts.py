"""What can be done to many sessions at once, and what each would be refused for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celery_cascade.errors import NotResumable, SessionConflict
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions import view
from celery_cascade.sessions.deleting import delete, whole_tree
from celery_cascade.sessions.halting import halt_one, refuse_halt
from celery_cascade.sessions.resuming import resume_one
from celery_cascade.states import Halt, SessionStatus, SuspendReason, waits_its_turn
from celery_cascade.tasks.runtime import Runtime

Act = Callable[[Runtime, Row, Action], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One of them.

    Args:
        name: as in `session_actions`.
        past: what a session then is: `cancelled`.
        does: does it; returns the ids that it concerned.
        could: raises what `does` would, as far as that can be known, and changes nothing.
        usual: the statuses that a filter means which names none.
        whole_trees: it takes a session with its descendants.
    """

    name: str
    past: str
    does: Act
    could: Act
    usual: tuple[SessionStatus, ...]
    whole_trees: bool = False


def _halting(halt: Halt) -> tuple[Act, Act]:
    def does(runtime: Runtime, row: Row, action: Action) -> Sequence[str]:
        reason = SuspendReason.OPERATOR.value if halt is Halt.SUSPENDED else action.reason
        halt_one(runtime, row["session_id"], halt, reason, action)
        return [row["session_id"]]

    def could(runtime: Runtime, row: Row, action: Action) -> Sequence[str]:
        refuse_halt(row["session_id"], SessionStatus(row["status"]), halt)
        return [row["session_id"]]

    return does, could


def _resume(runtime: Runtime, row: Row, action: Action) -> Sequence[str]:
    resume_one(runtime, row["session_id"], action)
    return [row["session_id"]]


def _could_resume(runtime: Runtime, row: Row, action: Action) -> Sequence[str]:
    if waits_its_turn(row["status"], row["status_reason"], row["started_at"]):
        raise SessionConflict(f"session {row['session_id']} waits for session {row['continues']} of its thread")
    if row["status"] != SessionStatus.ACTIVE and not view.can_resume(row, runtime.store.now()):
        raise NotResumable(f"session {row['session_id']} is {row['status']}; there is nothing to resume")
    if row["status_reason"] == SuspendReason.IN_DOUBT:
        raise NotResumable(f"session {row['session_id']} is suspended (in_doubt): it waits for an answer")
    return [row["session_id"]]


def _delete(runtime: Runtime, row: Row, action: Action) -> Sequence[str]:
    return delete(runtime, row["session_id"], actor=action.actor)


def _could_delete(runtime: Runtime, row: Row, action: Action) -> Sequence[str]:
    return whole_tree(runtime, row["session_id"])


_CANCEL, _COULD_CANCEL = _halting(Halt.CANCELLED)
_SUSPEND, _COULD_SUSPEND = _halting(Halt.SUSPENDED)
_S = SessionStatus

OPERATIONS = {
    one.name: one
    for one in (
        # What failed can still be resumed: whoever wants to end or delete it too says so by the status.
        Operation(name="cancel", past="cancelled", does=_CANCEL, could=_COULD_CANCEL, usual=(_S.ACTIVE, _S.SUSPENDED)),
        Operation(name="suspend", past="suspended", does=_SUSPEND, could=_COULD_SUSPEND, usual=(_S.ACTIVE,)),
        Operation(name="resume", past="resumed", does=_resume, could=_could_resume, usual=(_S.SUSPENDED, _S.FAILED)),
        Operation(
            name="delete",
            past="deleted",
            does=_delete,
            could=_could_delete,
            usual=(_S.COMPLETED, _S.CANCELLED, _S.EXPIRED),
            whole_trees=True,
        ),
    )
}
