"""The closed sets of words for sessions and steps (D2, D3), and which words mean an end.

Each member says who moves a row on from there and when the row goes away.
"""

from __future__ import annotations

from enum import StrEnum


class SessionStatus(StrEnum):
    """Where one run of a cascade stands."""

    ACTIVE = "active"  #: steps are queued or running; the last checkpoint moves it on
    SUSPENDED = "suspended"  #: nothing runs until the `SuspendReason` is lifted; `resume` moves it on
    COMPLETED = "completed"  #: every step ended well; pruned after its retention
    FAILED = "failed"  #: a step failed for good; `resume` tries again, otherwise pruned
    CANCELLED = "cancelled"  #: an operator ended it; pruned after its retention
    EXPIRED = "expired"  #: its `expires_at` passed first; pruned after its retention

    @property
    def final(self) -> bool:
        """Whether nothing but `resume` of a failed session moves it on."""
        return self in FINAL_SESSION


class SuspendReason(StrEnum):
    """Why a session is suspended. Of several the first in this order is shown."""

    OPERATOR = "operator"  #: somebody asked; only `resume` goes on
    IN_DOUBT = "in_doubt"  #: a step with `on_crash: ask` lost its worker; an operator decides
    POISONED = "poisoned"  #: a step killed its worker `cascade_max_crashes` times; an operator decides
    WORKER_LOST = "worker_lost"  #: no living worker knows an orphan's task; goes on when one appears
    APPROVAL = "approval"  #: a person has to answer
    SIGNAL = "signal"  #: an outside event has to arrive
    CHILDREN = "children"  #: sub-cascades have to end
    TIMER = "timer"  #: a moment has to come


class Halt(StrEnum):
    """What an active session is on its way to: nothing new is queued, what runs still ends.

    The weakest first: a later request replaces an earlier one only if it stands further down.
    """

    SUSPENDED = "suspended"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def rank(self) -> int:
        """Strength: the higher one wins when two are asked for."""
        return list(Halt).index(self)


def stronger(halt: Halt, reason: str | None, asked: Halt | None, asked_reason: str | None) -> bool:
    """Whether a halt for this reason takes the place of the one that was asked for before."""
    if asked is None:
        return True
    if halt is Halt.SUSPENDED and asked is Halt.SUSPENDED:
        order = [str(member) for member in SuspendReason]
        return reason in order and (asked_reason not in order or order.index(reason) < order.index(asked_reason))
    return halt.rank > asked.rank


class StepStatus(StrEnum):
    """Where one step, or one item of a mapped step, stands."""

    PENDING = "pending"  #: needs are open, or it is parked in a session that halted; arrivals or `resume` queue it
    QUEUED = "queued"  #: ready; a message is out or due at `wake_at`; a claim moves it on
    RUNNING = "running"  #: a worker holds the claim; when that worker is found dead, recovery queues it again
    WAITING = "waiting"  #: for a person, a signal, children or a moment; holds no worker
    SUCCEEDED = "succeeded"  #: checkpointed; never runs again
    FAILED = "failed"  #: failed for good; `resume` of the session queues it again
    SKIPPED = "skipped"  #: `when` was false, or nothing it needs ran; never runs
    CANCELLED = "cancelled"  #: its session was cancelled or expired before it ran

    @property
    def final(self) -> bool:
        """Whether the step counts as ended for its session."""
        return self in FINAL_STEP


FINAL_SESSION = frozenset(
    {SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.CANCELLED, SessionStatus.EXPIRED}
)
FINAL_STEP = frozenset({StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED})

#: Words of other systems, accepted as filters (D2).
STATUS_ALIASES = {
    "initialized": SessionStatus.ACTIVE,
    "pending": SessionStatus.ACTIVE,
    "generating": SessionStatus.ACTIVE,
    "running": SessionStatus.ACTIVE,
    "waiting": SessionStatus.SUSPENDED,
    "blocked": SessionStatus.SUSPENDED,
    "error": SessionStatus.FAILED,
    "orphaned": SessionStatus.FAILED,
}


def waits_its_turn(status: str, reason: str | None, started_at: object) -> bool:
    """Whether a session waits for an earlier one of its thread: `start(queue=True)`; it was never begun (D12)."""
    return status == SessionStatus.SUSPENDED and reason == SuspendReason.SIGNAL and started_at is None


_SESSION_MOVES: dict[SessionStatus, frozenset[SessionStatus]] = {
    SessionStatus.ACTIVE: frozenset(SessionStatus) - {SessionStatus.ACTIVE},
    SessionStatus.SUSPENDED: frozenset({SessionStatus.ACTIVE, SessionStatus.CANCELLED, SessionStatus.EXPIRED}),
    SessionStatus.FAILED: frozenset({SessionStatus.ACTIVE, SessionStatus.CANCELLED, SessionStatus.EXPIRED}),
    SessionStatus.COMPLETED: frozenset(),
    SessionStatus.CANCELLED: frozenset(),
    SessionStatus.EXPIRED: frozenset(),
}


def can_move(old: SessionStatus, new: SessionStatus) -> bool:
    """Whether a session may go from `old` to `new` (R39)."""
    return new in _SESSION_MOVES[old]
