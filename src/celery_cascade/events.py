"""The plugin's own signals (R161), each sent once, after the commit that it tells of; see docs/events.md.

Connect like Celery's: `session_failed.connect(handler, weak=False)`. The sender is the Celery app. A handler that
raises is logged and changes nothing. One that is missed (the process died after the commit) is not repeated: what
must not be missed is in SQL.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

#: A session is in SQL, its first messages are about to be sent.
session_started = Signal(name="session_started", providing_args={"session_id", "cascade_id"})
#: It stopped after a checkpoint and waits; `reason` says for what (`operator`, `poisoned`, …).
session_suspended = Signal(name="session_suspended", providing_args={"session_id", "status", "reason"})
#: It goes on: by somebody's wish (`step` is None), or because a step was taken back from a dead worker.
session_resumed = Signal(name="session_resumed", providing_args={"session_id", "step"})
#: Every step has ended, its output is stored.
session_completed = Signal(name="session_completed", providing_args={"session_id", "status"})
#: A step failed for good, or the output could not be made. `error`: {"type", "message", "step", "item", "attempt"}.
session_failed = Signal(name="session_failed", providing_args={"session_id", "status", "error"})
#: A step ended well or was skipped; `item` is None for a step that is not one of many.
step_checkpointed = Signal(
    name="step_checkpointed", providing_args={"session_id", "step", "item", "attempt", "version", "status"}
)
#: A step failed for good: its retries are used up, or it is not to be retried. `error` as above.
step_failed = Signal(name="step_failed", providing_args={"session_id", "step", "item", "attempt", "error"})
#: An attempt came too late: another worker has the step, what this one produced counts for nothing.
claim_lost = Signal(name="claim_lost", providing_args={"session_id", "step", "item", "attempt"})
#: A prune has ended; `deleted` is the number of sessions.
sessions_pruned = Signal(name="sessions_pruned", providing_args={"deleted"})

ALL = (
    session_started,
    session_suspended,
    session_resumed,
    session_completed,
    session_failed,
    step_checkpointed,
    step_failed,
    claim_lost,
    sessions_pruned,
)
