"""Celery's signals as the eyes and ears of a worker's main process (R152).

No guarantee rests on them: Celery swallows what a handler raises, and a handler that is disconnected costs promptness
only, since the audit finds the same within `cascade_orphan_interval`. What happens inside a pool's child, the guard
records itself; these handlers do nothing there. `before_task_publish` is in propagate.py, the worker's own life in
worker.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from celery import signals
from celery.exceptions import TimeLimitExceeded, WorkerLostError

from celery_cascade.tasks.attempt import STEP_HEADER, StepRef
from celery_cascade.tasks.facts import Fact, Facts, Reason
from celery_cascade.tasks.runtime import Runtime

#: Signal -> what is recorded in SQL because of it; `docs/architecture.md` shows this table.
RECORDED: dict[str, str] = {
    "before_task_publish": "nothing; it puts the header cascade_session on every message that a session causes",
    "task_failure": "a child that was lost: the step is queued again, one crash more; its hard time limit: a timeout, "
    "tried again as the step's retry policy says",
    "task_retry": "a step that a cold shutdown (SIGQUIT) has cancelled: it is queued again",
    "task_revoked": "a step that was terminated: it is queued again; one that did not run yet stays queued",
    "task_rejected": "nothing: the step stays queued, and its message is sent again",
    "task_unknown": "the step stays queued; its message is sent again after 5 s, and later each time, for workers "
    "that know its task",
    "task_internal_error": "an attempt that Celery's own code broke off: the step is queued again, one crash more",
    "worker_init": "the worker's row, before its pool starts; or the worker stops, if it could not keep its promise",
    "worker_ready": "the first heartbeat; what dead workers have left is queued again",
    "worker_shutting_down": "nothing; the log says what becomes of the steps that run",
    "worker_shutdown": "the worker's goodbye; what it still ran is queued again",
    "worker_process_init": "nothing, nobody is connected: a child inherits its worker, and makes its own connections",
    "beat_init": "nothing; the entries of beat_schedule.py join the user's",
}

#: The apps whose worker's main process this is, and where its facts go. Empty in clients and in the pool's children.
_LISTENING: WeakKeyDictionary[Any, Facts] = WeakKeyDictionary()
os.register_at_fork(after_in_child=_LISTENING.clear)


def connect(_runtime: Runtime) -> None:
    """Connect the handlers, once in a process however many apps; each looks for the app that it is about."""
    for name, handler in HANDLERS.items():
        getattr(signals, name).connect(handler, weak=False, dispatch_uid=f"celery_cascade.{name}")


def listen(app: Any, facts: Facts) -> None:
    """From now on what happens to steps of `app` in this process is put on `facts`."""
    _LISTENING[app] = facts


def deafen(app: Any) -> None:
    """No longer."""
    _LISTENING.pop(app, None)


def ref_in(headers: Any, task_id: str | None) -> StepRef | None:
    """The step that a message or request with these headers is; None if it is none."""
    header = headers.get(STEP_HEADER) if isinstance(headers, Mapping) else None
    ref = StepRef.from_header(header) if isinstance(header, Mapping) else None
    return ref if ref is not None and ref.task_id == task_id else None


def _tell(app: Any, headers: Any, task_id: str | None, reason: Reason, text: str) -> None:
    facts = _LISTENING.get(app)
    if facts is None:
        return
    ref = ref_in(headers, task_id)
    if ref is not None:
        facts.put(Fact(ref=ref, reason=reason, text=text))


def on_task_failure(sender: Any = None, task_id: str | None = None, exception: Any = None, **_: Any) -> None:
    """A hard time limit is told twice; only the second time Celery has the request at hand."""
    if isinstance(exception, WorkerLostError):
        _tell(sender.app, sender.request.headers, task_id, "crash", f"its process was lost: {exception}")
    elif isinstance(exception, TimeLimitExceeded):
        _tell(sender.app, sender.request.headers, task_id, "timeout", f"killed by its hard time limit: {exception}")


def on_task_retry(sender: Any = None, request: Any = None, reason: Any = None, **_: Any) -> None:
    """Without a reason: cancelled by SIGQUIT. With a lost worker as the reason: `task_retry_on_worker_lost`."""
    if reason is None:
        _tell(sender.app, request.headers, request.id, "cancelled", "cancelled by the cold shutdown of its worker")
    elif isinstance(getattr(reason, "exc", None), WorkerLostError):
        _tell(sender.app, request.headers, request.id, "crash", f"its process was lost: {reason.exc}")


def on_task_revoked(
    sender: Any = None, request: Any = None, terminated: bool = False, expired: bool = False, **_: Any
) -> None:
    """Revoking a step's task ends nothing: a session is ended with `cancel`."""
    text = "its task was terminated by revoke" if terminated else "expired" if expired else "its task id was revoked"
    _tell(sender.app, request.headers, request.id, "cancelled" if terminated else "dropped", text)


def on_task_rejected(sender: Any = None, message: Any = None, exc: Any = None, **_: Any) -> None:
    """The worker cannot make sense of the message."""
    text = f"rejected by the worker: {exc!r}" if exc else "rejected by the worker"
    _tell(sender.app, message.headers, _id_in(message), "dropped", text)


def on_task_unknown(sender: Any = None, message: Any = None, name: str = "", **_: Any) -> None:
    """The worker does not know the task: an older deploy, or another program on the same queue."""
    text = f"worker {getattr(sender, 'hostname', '')} does not know the task {name!r}"
    _tell(sender.app, message.headers, _id_in(message), "unknown", text)


def on_task_internal_error(
    sender: Any = None, task_id: str | None = None, request: Any = None, einfo: Any = None, **_: Any
) -> None:
    """In the pools without children; there the request is a mapping."""
    headers = request if isinstance(request, Mapping) else getattr(request, "headers", None)
    _tell(sender.app, headers, task_id, "crash", f"Celery failed around it: {getattr(einfo, 'exception', einfo)!r}")


def _id_in(message: Any) -> str | None:
    headers = message.headers
    return headers.get("id") if isinstance(headers, Mapping) else None


HANDLERS = {
    "task_failure": on_task_failure,
    "task_retry": on_task_retry,
    "task_revoked": on_task_revoked,
    "task_rejected": on_task_rejected,
    "task_unknown": on_task_unknown,
    "task_internal_error": on_task_internal_error,
}
