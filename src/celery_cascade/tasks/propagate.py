"""`cascade_session` on every message that a session causes; `cascade_step` on none but the step's own.

Headers given to `apply_async` reach the first task of a canvas only, and stamps miss replaced and spawned tasks; a
handler of `before_task_publish` reaches them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery._state import _task_stack
from celery.signals import before_task_publish

from celery_cascade.tasks.attempt import SESSION_HEADER, STEP_HEADER
from celery_cascade.tasks.guard_call import RUNNER


def connect() -> None:
    """Once in a process, however many apps; without a runner on its app a task's messages are left alone."""
    before_task_publish.connect(on_before_task_publish, weak=False, dispatch_uid="celery_cascade.propagate")


def on_before_task_publish(headers: Any = None, body: Any = None, **_: Any) -> None:
    """Celery lets handlers change `headers` in place: they are the ones that are sent."""
    if not isinstance(headers, dict):
        return
    if STEP_HEADER in headers and not _is_its_own(headers, body):
        del headers[STEP_HEADER]  # somebody passed `self.request.headers` on
    if SESSION_HEADER not in headers:
        session = session_of_caller()
        if session is not None:
            headers[SESSION_HEADER] = session


def session_of_caller() -> str | None:
    """The session that the running task belongs to.

    A task that is called directly or applied inside another has a request without headers, so the nearest one that
    bears the header counts, not the topmost.
    """
    for task in reversed(_task_stack.stack):
        if RUNNER not in task.app.__dict__:
            continue
        for request in reversed(task.request_stack.stack):
            session = request.headers and request.headers.get(SESSION_HEADER)
            if session:
                return str(session)
    return None


def _is_its_own(headers: Mapping[str, Any], body: Any) -> bool:
    step = headers[STEP_HEADER]
    message_id = headers.get("id")
    if message_id is None and isinstance(body, Mapping):  # task_protocol = 1 keeps it in the body
        message_id = body.get("id")
    return isinstance(step, Mapping) and step.get("task_id") == message_id
