"""`__call__` of a task: the step's own call goes to the runner, every other passes through and notices nothing.

A call that passes through is on the path of every plain task of the user's: what stands here is measured, see
tests/unit/guard/test_step_or_not.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.app.task import Task

from celery_cascade.tasks.attempt import STEP_HEADER, StepRunner
from celery_cascade.tasks.guard_step import run_step, step_ref

Method = Callable[..., Any]

RUNNER = "_cascade_runner"  #: on the app: who answers for its steps
ENTERED = "cascade_entered"  #: on a request: its call has been seen, whatever is called from now on is not the step

# `request_stack.top` takes 0.8 µs, twice of all else that the guard costs a plain task, so we look at what lies behind
# it. Where that is not there (USE_FAST_LOCALS, another Celery, no request) we ask as everybody does.
_NO_SHORT_CUT = (AttributeError, KeyError, IndexError)

# Where `Task.__call__` comes from tells whether the tracer calls it; `task_has_custom` asks the same.
_CELERYS_OWN, _WORKERS = "celery.app.task", "celery.app.trace"


def around_own_call(inner: Method) -> Method:
    """For a class with a `__call__` of its own, or of the user's annotations."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  this name is what tracebacks show
        try:
            local = self.request_stack._local
            request = local.__storage__[local.__ident_func__()]["stack"][-1]
        except _NO_SHORT_CUT:
            request = self.request_stack.top
        if request is not None:
            headers = request.headers
            if headers is not None and STEP_HEADER in headers:
                return _enter(self, inner, request, args, kwargs)
        return inner(self, *args, **kwargs)

    return __call__


def around_celerys_call(_: Method) -> Method:
    """For a class that leaves `__call__` to Celery.

    For these, `Task.__call__` makes a request of its own, which is right for a direct call only. So Celery's tracer
    calls `run` instead; or, in a worker, a `Task.__call__` that knows the first call of a request by `_protected`
    (`_install_stack_protection` in celery/app/trace.py). Now that the tracer calls us, we have to do as they would.
    """

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        try:
            local = self.request_stack._local
            stack = local.__storage__[local.__ident_func__()]["stack"]
            request = stack[-1]
        except _NO_SHORT_CUT:
            stack = self.request_stack.stack
            request = stack[-1] if stack else None
        if request is None or request.called_directly or request._protected:
            return Task.__call__(self, *args, **kwargs)
        headers = request.headers
        if headers is not None and STEP_HEADER in headers:
            return _enter(self, _as_traced, request, args, kwargs)
        call = Task.__call__  # looked up each time: workers, and tools that trace, put theirs there when they start
        module = getattr(call, "__module__", None)
        if module == _CELERYS_OWN or (module == _WORKERS and len(stack) == 1):
            request._protected = 1
            return self.run(*args, **kwargs)
        return call(self, *args, **kwargs)

    return __call__


def _as_traced(task: Any, *args: Any, **kwargs: Any) -> Any:
    """The body of a step of such a class. Unlike Celery, it keeps the request where steps are applied in each other."""
    call = Task.__call__
    if getattr(call, "__module__", None) in (_CELERYS_OWN, _WORKERS):
        task.request_stack.top._protected = 1
        return task.run(*args, **kwargs)
    return call(task, *args, **kwargs)


def _enter(task: Any, body: Method, request: Any, args: Any, kwargs: Any) -> Any:
    """The first call of a request that bears the header. Any further one is the body calling its own task."""
    state = request.__dict__
    runner: StepRunner | None = task.app.__dict__.get(RUNNER)
    if runner is None or request.called_directly or ENTERED in state:
        return body(task, *args, **kwargs)
    state[ENTERED] = True
    ref = step_ref(request)
    if ref is None:
        return body(task, *args, **kwargs)
    return run_step(task, body, request, ref, runner)
