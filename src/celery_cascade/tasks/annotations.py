"""The guard on a task class: four methods wrapped once, when Celery binds the class to its app.

Nothing else of the app, of its settings or of the user's functions is changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

from celery.app.annotations import prepare, resolve_all
from celery.app.task import Task

from celery_cascade.tasks.guard_call import Method, around_celerys_call, around_own_call
from celery_cascade.tasks.guard_retry import guarded_add_to_chord, guarded_replace, guarded_retry

MARK = "__cascade_guard__"  #: on a wrapped method. functools.wraps copies it, so that tracing tools may wrap us again.


class GuardAnnotation:
    """Stands alone in `app.annotations` and answers for all that `task_annotations` says.

    Celery asks a list of annotations for the *first* that matches, so that a user's entry would switch a neighbour off;
    this one applies the user's, and then adds the guard to what came out.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self._users: Any = app.__dict__.get("annotations")

    def annotate(self, task: Any) -> dict[str, Any]:
        """Called by Celery with each task class that it binds."""
        if self._users is None:  # as late as Celery itself reads the setting, and as finally
            self._users = prepare(self.app.conf.task_annotations)
        for found in resolve_all(self._users, task):
            for key, value in found.items():
                if key.startswith("@"):
                    task.add_around(key[1:], value)
                else:
                    setattr(task, key, value)
        return missing_guards(task)


def missing_guards(task_class: Any) -> dict[str, Any]:
    """The wrapped methods that this class has to be given; none if it has, or inherits, them all."""
    wrap: dict[str, Callable[[Method], Method]] = {
        "__call__": around_own_call if _has_own_call(task_class) else around_celerys_call,
        "retry": guarded_retry,
        "replace": guarded_replace,
        "add_to_chord": guarded_add_to_chord,
    }
    found = {name: make(_as_found(task_class, name)) for name, make in wrap.items() if not is_guarded(task_class, name)}
    for name, method in found.items():
        method.__doc__ = getattr(task_class, name).__doc__
        setattr(method, MARK, True)
    if found and not is_guarded(task_class, "on_bound"):
        found["on_bound"] = _guarding_on_bound(inspect.getattr_static(task_class, "on_bound"))
    return found


def add_guards(task_class: Any) -> bool:
    """Wrap what is not; True if there was something to do."""
    missing = missing_guards(task_class)
    for name, method in missing.items():
        setattr(task_class, name, method)
    return bool(missing)


def _guarding_on_bound(inner: Any) -> Any:
    """A second chance: Celery annotates a class once, and a subclass of a registered task never (it is `__bound__`)."""

    def on_bound(cls: Any, app: Any) -> None:
        inner.__get__(None, cls)(app)
        add_guards(cls)

    setattr(on_bound, MARK, True)
    return classmethod(on_bound)


def is_guarded(task_class: Any, name: str) -> bool:
    """Whether calls of this method come to us first, or by way of somebody who wrapped us."""
    return getattr(getattr(task_class, name), MARK, False) is True


def _has_own_call(task_class: Any) -> bool:
    return any("__call__" in vars(node) for node in task_class.__mro__[: task_class.__mro__.index(Task)])


def _as_found(task_class: Any, name: str) -> Method:
    """The method before the guard, to be called with the task first, whatever kind of attribute it is."""
    raw = inspect.getattr_static(task_class, name)
    if isinstance(raw, FunctionType):
        return raw

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bind = getattr(type(raw), "__get__", None)
        return (raw if bind is None else bind(raw, self, type(self)))(*args, **kwargs)

    return call
