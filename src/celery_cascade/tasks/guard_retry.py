"""`self.retry`, `self.replace` and `self.add_to_chord` inside a step: nothing is published, SQL is told instead."""

from __future__ import annotations

import inspect
import sys
from datetime import UTC, datetime
from typing import Any

from celery.app.task import Task
from celery.exceptions import Retry

from celery_cascade.errors import CascadeError
from celery_cascade.tasks.attempt import RetryAsked
from celery_cascade.tasks.current import Running, running_as
from celery_cascade.tasks.guard_call import Method

_SIGNATURE = inspect.signature(Task.retry)


def guarded_retry(inner: Method) -> Method:
    """Celery's own `retry` decides (limits, delay, merged arguments); only its publishing is left out."""

    def retry(self: Any, *args: Any, **kwargs: Any) -> Any:
        running = running_as(self)
        if running is None:
            return inner(self, *args, **kwargs)
        handled = sys.exception()
        given = _given(self, args, kwargs)
        error = given.get("exc") or handled
        try:
            answer = _unpublished(inner, running.request)(self, *args, **kwargs)
        except Retry as signal:
            _note_down(running, signal, given, error, self.app)
            raise
        if isinstance(answer, Retry):  # throw=False
            _note_down(running, answer, given, error, self.app)
        return answer

    return retry


def guarded_replace(inner: Method) -> Method:
    def replace(self: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_in_step(self, "replace", "return the value, and let the cascade name the step that follows")
        return inner(self, *args, **kwargs)

    return replace


def guarded_add_to_chord(inner: Method) -> Method:
    def add_to_chord(self: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_in_step(self, "add_to_chord", "give the cascade one step more, which the join needs too")
        return inner(self, *args, **kwargs)

    return add_to_chord


def _refuse_in_step(task: Any, method: str, instead: str) -> None:
    running = running_as(task)
    if running is not None:
        ref = running.attempt.ref
        raise CascadeError(
            f"step {ref.step} of session {ref.session} called self.{method}(): not yet supported inside a step",
            hint=f"Instead, {instead}; or send the task outside of a session.",
        )


def _unpublished(inner: Method, request: Any) -> Method:
    """To Celery an eager request is one whose retry is raised, not sent: the one branch of `retry` that we need."""

    def call(*args: Any, **kwargs: Any) -> Any:
        was, request.is_eager = request.is_eager, True
        try:
            return inner(*args, **kwargs)
        finally:
            request.is_eager = was

    return call


def _given(task: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    try:
        return dict(_SIGNATURE.bind_partial(task, *args, **kwargs).arguments)
    except TypeError:  # a `retry` of the user's own, with a signature of its own
        return dict(kwargs)


def _note_down(running: Running, signal: Any, given: dict[str, Any], error: BaseException | None, app: Any) -> None:
    changed = signal.sig
    if changed is None:  # noted already: a guarded `retry` called the guarded `retry` of its base class
        return
    with_arguments = given.get("args") is not None or given.get("kwargs") is not None
    running.asked = RetryAsked(
        args=list(changed.args) if with_arguments else None,
        kwargs=dict(changed.kwargs) if with_arguments else None,
        delay=_seconds_until(signal.when, app),
        error=error,
        options=dict(given.get("options") or {}),
    )
    running.signal = signal
    signal.sig = None  # or `Task.apply` would run it again at once, beside the runner
    signal.is_eager = running.request.is_eager


def _seconds_until(when: Any, app: Any) -> float:
    if when is None:
        return 0.0
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if not isinstance(when, datetime):
        return max(0.0, float(when))
    if when.tzinfo is None:  # as Celery reads such an eta
        when = when.replace(tzinfo=UTC if app.conf.enable_utc else app.timezone)
    left: float = (when - app.now()).total_seconds()
    return max(0.0, left)
