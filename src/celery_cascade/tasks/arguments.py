"""Whether a task takes the arguments of a step: told before the start, kinder than a TypeError in a worker.

As Celery does before it sends a message: with the arguments of the task's outermost function (`__header__`), so that a
decorator which takes anything is believed, and not for tasks with `typing=False`. A class with a `__call__` of its own
may give further arguments: what such a task refuses is a doubt, and not certain.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery.app.task import Task

from celery_cascade.tasks.guard_call import around_celerys_call
from celery_cascade.words import listed, shown, suggestion

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_PLACED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Arguments that a task does not take.

    Args:
        what: in words.
        key: the argument that it does not know; None = one too few, or too many by position.
        certain: whether the call would raise TypeError, whatever decorators do.
    """

    what: str
    key: str | None = None
    certain: bool = True


def mismatch(task: Any, arguments: Mapping[str, Any] | Sequence[Any]) -> Mismatch | None:
    """What is wrong with a step's arguments for this task; None if nothing is, or it cannot be told."""
    if not getattr(task, "typing", True):
        return None
    args, kwargs = ((), arguments) if isinstance(arguments, Mapping) else (arguments, {})
    header = getattr(task, "__header__", None)
    if header is not None and _accepts(header, args, kwargs):
        return None
    declared, body = _signature(header or task.run), _signature(_body(task), outermost=True)
    if declared is None or _binds(declared, args, kwargs):
        return None
    what, key = _words(task.name, declared, args, kwargs)
    certain = _called_by_celery(task) and body is not None and not _binds(body, args, kwargs)
    return Mismatch(what=what, key=key, certain=certain)


def _accepts(header: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Celery's own way: an empty function with the same arguments, a hundred times faster than a signature."""
    try:
        header(*args, **kwargs)
    except TypeError:
        return False
    return True


def _body(task: Any) -> Any:
    return getattr(task, "_orig_run", task.run)  # under the wrapper of autoretry_for


def _called_by_celery(task: Any) -> bool:
    """Whether the class leaves `__call__` to Celery; one of its own may add arguments."""
    call = type(task).__call__
    return call is Task.__call__ or call.__qualname__.startswith(f"{around_celerys_call.__name__}.")


def _signature(function: Any, *, outermost: bool = False) -> inspect.Signature | None:
    try:
        return inspect.signature(function, follow_wrapped=not outermost)
    except (TypeError, ValueError):  # built in, or strange
        return None


def _binds(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _words(
    name: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, str | None]:
    parameters = signature.parameters.values()
    named = [one.name for one in parameters if one.kind in _NAMED]
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        for key in kwargs:
            if key not in named:
                hint = suggestion(key, named, else_list="it takes") if named else "; it takes none by name"
                return f"task {name!r} takes no argument {shown(key)}{hint}", key
    placed = [one for one in parameters if one.kind in _PLACED]
    endless = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)
    if len(args) > len(placed) and not endless:
        takes = f"at most {len(placed)} positional" if placed else "no positional"
        return f"task {name!r} takes {takes} arguments, and with gives {len(args)}", None
    given = {one.name for one in placed[: len(args)]} | set(kwargs)
    needed = [one.name for one in parameters if one.default is one.empty and one.kind in (*_NAMED, *_PLACED)]
    missing = [one for one in needed if one not in given]
    noun = "argument" if len(missing) == 1 else "arguments"
    return f"task {name!r} needs the {noun} {listed(missing)}, which with does not give", None
