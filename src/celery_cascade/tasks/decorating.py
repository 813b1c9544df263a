"""Where `@cascades.step(...)` keeps what it says of a task, whatever it stands on or under (R151).

Under `@app.task` and `@shared_task` it marks the function, which Celery makes the task's `run`. On top of them it
marks the task; one that Celery has not made yet, as soon as it is made, so that no app is finalized early by this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Task
from celery.local import PromiseProxy, Proxy

from celery_cascade.definition.policies import StepPolicy
from celery_cascade.errors import UsageError

MARK = "__cascade_step__"

#: Tasks of no certain app (`@shared_task`), with what is to be done once an app has made them.
Later = Callable[[Callable[[Any], None]], None]


#: Whether anything is decorated in this process: as long as nothing is, no send is looked at.
used = False


def policy_of(task: Any) -> StepPolicy | None:
    """What was said of a task; None = it is not decorated."""
    found = getattr(task, MARK, None) or getattr(getattr(task, "run", None), MARK, None)
    return found if isinstance(found, StepPolicy) else None


def decorate(target: Any, policy: StepPolicy, when_ready: Later) -> Any:
    """Mark a function, a task, a task class, or the promise of one; returns it as it is.

    Args:
        when_ready: calls a function with each app that is finalized, now or later.

    Raises:
        UsageError: it is nothing of these.
    """
    global used
    used = True
    if type(target) is PromiseProxy:
        target.__then__(lambda: _mark(target._get_current_object(), policy))
    elif type(target) is Proxy:  # of @shared_task: looked up anew each time, in the app of the day
        when_ready(lambda app: _mark_shared(app, target, policy))
    else:
        _mark(target, policy)
    return target


def _mark(target: Any, policy: StepPolicy) -> None:
    if not (isinstance(target, Task) or callable(target)):
        raise UsageError(
            f"@cascades.step stands on {target!r}, which is neither a function nor a Celery task",
            hint="Put it right above or right below @app.task",
        )
    setattr(target, MARK, policy)


def _mark_shared(app: Any, proxy: Any, policy: StepPolicy) -> None:
    name = proxy.name
    if name in app.tasks:
        _mark(app.tasks[name], policy)
