"""Puts the guard on every task of an app, whenever and however it is made; see annotations.py for what it does."""

from __future__ import annotations

from typing import Any

from celery.app.trace import build_tracer

from celery_cascade.calling import real_app
from celery_cascade.tasks import guard_spawn, propagate
from celery_cascade.tasks.annotations import GuardAnnotation, add_guards, is_guarded
from celery_cascade.tasks.attempt import StepRunner
from celery_cascade.tasks.guard_call import RUNNER

GUARDED = ("__call__", "retry", "replace", "add_to_chord")


def install_guard(app: Any, runner: StepRunner) -> None:
    """From now on `runner` answers for the steps among the tasks of `app`. May be called again, with another one.

    It neither reads the configuration nor finalizes the app, so its place among the lines of a module is free. The
    annotation goes to `app.annotations`, the prepared form of `task_annotations`, and not into the setting: that may
    still be replaced (`config_from_object`, `conf.update`), is pickled for spawned processes, and belongs to the user.
    """
    app = real_app(app)
    known = RUNNER in app.__dict__
    setattr(app, RUNNER, runner)
    if known:
        return
    app.annotations = [GuardAnnotation(app)]
    guard_tasks(app)
    propagate.connect()
    if not isinstance(runner, guard_spawn.Elsewhere):
        guard_spawn.remember(app)


def guard_rebuilt_app(app: Any) -> None:
    """A fixup: called by the constructor of an app that was pickled with the guard on it."""
    install_guard(app, guard_spawn.Elsewhere(app))


def guard_tasks(app: Any) -> None:
    """Wrap what was bound before the guard came; Celery annotates a class only when it binds it first."""
    app = real_app(app)
    for name, task in list(app._tasks.items()):
        if not type(task).__bound__:
            continue
        if add_guards(type(task)) and task.__trace__ is not None:  # made before, it may call `run` past us
            task.__trace__ = build_tracer(name, task, app.loader, app=app)


def unguarded(app: Any) -> list[str]:
    """Names of the registered tasks, Celery's own included, that could run as a step without being noticed."""
    app = real_app(app)
    return sorted(
        name
        for name, task in app.tasks.items()
        if RUNNER not in app.__dict__ or not all(is_guarded(type(task), attribute) for attribute in GUARDED)
    )
