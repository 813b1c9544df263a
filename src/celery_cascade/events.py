"""The plugin's own signals (R161), sent after the commit that they tell of.

Connect like Celery's: `session_failed.connect(handler, weak=False)`. The sender is the Celery app. A handler that
raises is logged and changes nothing. One that is missed (the process died after the commit) is not repeated: what
must not be missed is in SQL.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

session_started = Signal(name="session_started", providing_args={"session_id", "cascade_id"})
session_suspended = Signal(name="session_suspended", providing_args={"session_id", "status"})
session_resumed = Signal(name="session_resumed", providing_args={"session_id", "step"})
session_completed = Signal(name="session_completed", providing_args={"session_id", "status"})
session_failed = Signal(name="session_failed", providing_args={"session_id", "status"})
step_checkpointed = Signal(
    name="step_checkpointed", providing_args={"session_id", "step", "item", "attempt", "version", "status"}
)
step_failed = Signal(name="step_failed", providing_args={"session_id", "step", "item", "attempt", "error"})
claim_lost = Signal(name="claim_lost", providing_args={"session_id", "step", "item", "attempt"})
sessions_pruned = Signal(name="sessions_pruned", providing_args={"deleted"})
