"""`.delay()` and `.apply_async()` of a decorated task, or of a canvas that holds one, start a session (R151).

`apply_async` of Celery's own classes is wrapped, once in a process: it is the innermost place before the publish, so
that a task's own `apply_async`, and whatever traces it, come first; and a store that cannot take the session can
still refuse (D4). An app without `Cascades`, and a task that is not decorated, go straight through.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from celery import Task
from celery._state import get_current_task
from celery.canvas import Signature, _chain, _chord, chunks, group, maybe_signature, xmap, xstarmap

from celery_cascade.sessions.canvas import Sent, kind_of
from celery_cascade.tasks import decorating
from celery_cascade.tasks.decorating import policy_of
from celery_cascade.tasks.degraded import store_usable
from celery_cascade.tasks.propagate import session_of_caller
from celery_cascade.tasks.runtime import Runtime, runtime_of

Starter = Callable[[Runtime, Signature, Sent], Any]

#: Celery's own dispatch bears one of these: the next task of a plain chain, a callback, a member of a plain group.
_CELERYS_OWN = ("root_id", "parent_id", "group_id", "chord", "chain")
_FROZEN = (*_CELERYS_OWN, "group_index", "reply_to", "replaced_task_nesting")
_MARK = "__cascade_capture__"


def install(starter: Starter) -> None:
    """Wrap Celery's classes; once, however many apps there are.

    Args:
        starter: starts a session from a signature and returns its handle.
    """
    if hasattr(Task.apply_async, _MARK):
        return
    Task.apply_async = _task_send(Task.apply_async, starter)
    for cls in (_chain, group, _chord, xmap, xstarmap, chunks):
        cls.apply_async = _canvas_send(cls.apply_async, starter)


def _task_send(inner: Any, starter: Starter) -> Any:
    @functools.wraps(inner)
    def apply_async(self: Any, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        policy = policy_of(self) if decorating.used else None
        if policy is None and "durable" not in options:
            return inner(self, args, kwargs, *rest, **options)
        durable = options.pop("durable", None)
        options |= dict(zip(_REST, rest, strict=False))
        runtime = runtime_of(self.app)
        wanted = policy is not None and policy.durable if durable is None else durable
        if runtime is None or not wanted or not _is_outermost(options, durable) or not store_usable(runtime):
            return inner(self, args, kwargs, **options)
        _check_call(self, args, kwargs)
        return starter(runtime, self.signature(args, kwargs), Sent(options=options))

    setattr(apply_async, _MARK, True)
    return apply_async


#: The positional parameters of `Task.apply_async` after args and kwargs.
_REST = ("task_id", "producer", "link", "link_error", "shadow")


def _canvas_send(inner: Any, starter: Starter) -> Any:
    names = list(inspect.signature(inner).parameters)[3:]

    @functools.wraps(inner)
    def apply_async(self: Any, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        durable = options.pop("durable", self.options.get("durable"))
        runtime = runtime_of(self.app) if decorating.used or durable is not None else None
        if runtime is None:
            return inner(self, args, kwargs, *rest, **options)
        options |= dict(zip(names, rest, strict=False))
        wanted = durable if durable is not None else any(_wants(task) for task in _tasks_in(self, runtime))
        outermost = _is_outermost({**self.options, **options}, durable) and not _is_celerys_own(self)
        if not wanted or not outermost or not store_usable(runtime):
            with _plainly():
                return inner(self, args, kwargs, **options)
        return starter(runtime, self, Sent(tuple(args or ()), dict(kwargs or {}), options))

    return apply_async


_NOWHERE = object()
#: Where a canvas is being sent that is to be plain: its members are, too, but not what they send when they run (eager).
_PLAIN: ContextVar[Any] = ContextVar("celery_cascade_plain", default=_NOWHERE)


@contextmanager
def _plainly() -> Iterator[None]:
    token = _PLAIN.set(get_current_task())
    try:
        yield
    finally:
        _PLAIN.reset(token)


def _wants(task: Any) -> bool:
    policy = policy_of(task)
    return policy is not None and policy.durable


def _is_outermost(options: Mapping[str, Any], durable: bool | None) -> bool:
    """Whether this is a call of the user's that nothing durable surrounds yet."""
    if _PLAIN.get() is get_current_task() or any(options.get(key) is not None for key in _CELERYS_OWN):
        return False
    running = get_current_task()
    if running is not None and options.get("task_id") == running.request.id is not None:
        return False  # a retry of a plain message, or what replaces one: whoever waits for it waits for this id
    return durable is True or session_of_caller() is None


def _is_celerys_own(canvas: Any) -> bool:
    """In a running task: the body of a plain chord, or what replaces a task. Celery has frozen its members."""
    return get_current_task() is not None and any(
        any((leaf.get("options") or {}).get(key) is not None for key in _FROZEN) for leaf in _leaves(canvas)
    )


def _tasks_in(signature: Any, runtime: Runtime) -> Iterator[Any]:
    """The tasks of a canvas, as they are registered."""
    return (runtime.app.tasks.get(leaf.get("task")) for leaf in _leaves(signature))


def _leaves(signature: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [signature]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Mapping):
            continue
        kwargs = node.get("kwargs") or {}
        match kind_of(node):
            case None:
                yield node
            case "chain" | "group":
                waiting.extend(kwargs["tasks"])
            case "chord":
                header = maybe_signature(kwargs["header"])
                waiting.extend(header.tasks if isinstance(header, Signature) else header)
                waiting.append(kwargs["body"])
            case "map" | "starmap" | "chunks":
                waiting.append(kwargs["task"])
            case _:
                pass  # somebody's own kind of signature


def _check_call(task: Any, args: Any, kwargs: Any) -> None:
    """As Celery: a call that does not fit the task's signature is a TypeError where it is made."""
    header = getattr(task, "__header__", None) if task.typing else None
    if header is not None:
        header(*(args or ()), **(kwargs or {}))
