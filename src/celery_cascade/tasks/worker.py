"""The worker's life as Celery tells it: checks before it starts, a row, a heartbeat, recovery, a goodbye."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from celery import signals as celery_signals

from celery_cascade import beat_schedule, embedded
from celery_cascade.config import doubts_in
from celery_cascade.errors import CascadeError, ConfigError
from celery_cascade.tasks import guard
from celery_cascade.tasks.degraded import store_usable
from celery_cascade.tasks.incarnation import Incarnation
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.pools import check_pool, pool_name
from celery_cascade.tasks.runtime import Runtime, runtime_of

logger = logging.getLogger("celery_cascade")

#: The workers whose main process this is: one, but for tests. Never those of a parent process.
_WORKERS: WeakKeyDictionary[Any, Incarnation] = WeakKeyDictionary()
os.register_at_fork(after_in_child=_WORKERS.clear)


def connect(runtime: Runtime) -> None:
    """Be told of workers and Beats of the runtime's app. What happens to other apps is left alone."""
    for name, handler in HANDLERS.items():
        getattr(celery_signals, name).connect(handler, weak=False, dispatch_uid=f"celery_cascade.{name}")
    beat_schedule.connect(runtime.app)


def on_worker_init(sender: Any = None, **_: Any) -> None:
    """Check what a promise would be broken by, and enter the worker in the store, before the pool starts."""
    runtime = runtime_of(sender.app)
    if runtime is not None:
        _or_stop(sender, lambda: _begin(runtime, sender))


def _begin(runtime: Runtime, controller: Any) -> None:
    for doubt in doubts_in():
        logger.warning("[cascade] %s", doubt)
    check_pool(pool_name(controller.pool_cls))
    embedded.refuse_unsafe_broker(runtime.app)
    embedded.refuse_broken_broker(runtime.app)
    if not store_usable(runtime):  # it has been told; steps of sessions are not touched without a row of our own
        return
    patiently(lambda: runtime.store, seconds=runtime.config.database_patience, what="start of the worker")
    _check_guard(runtime.app)
    incarnation = Incarnation(runtime, controller)
    incarnation.begin()
    _WORKERS[runtime.app] = incarnation


def on_worker_ready(sender: Any = None, **_: Any) -> None:
    """The sender is the consumer. Tasks that other handlers of `worker_init` have registered are checked as well."""
    incarnation = _WORKERS.get(sender.app)
    if incarnation is not None:
        _or_stop(sender.controller, lambda: _ready(incarnation))


def _ready(incarnation: Incarnation) -> None:
    _check_guard(incarnation.runtime.app)
    incarnation.ready()


def on_worker_shutting_down(sender: Any = None, how: str = "", **_: Any) -> None:
    """In the handler of an operating system's signal, so nothing but a word."""
    for incarnation in list(_WORKERS.values()):
        if incarnation.nodename == sender:
            warm = "steps that run are finished and checkpointed first"
            cold = "steps that run are cut off and queued again"
            logger.info("[cascade] %s shutdown: %s", how.lower(), warm if how == "Warm" else cold)


def on_worker_shutdown(sender: Any = None, **_: Any) -> None:
    """The pool has stopped. A cold shutdown does not send this signal, so the process's end asks as well."""
    _end(_WORKERS.pop(sender.app, None))


def _end(incarnation: Incarnation | None) -> None:
    if incarnation is not None:
        incarnation.end()


def _at_exit() -> None:
    for app in list(_WORKERS):
        _end(_WORKERS.pop(app, None))


atexit.register(_at_exit)


def _check_guard(app: Any) -> None:
    """Raises ConfigError: a task could run as a step without being noticed."""
    names = guard.unguarded(app)
    if names:
        raise ConfigError(
            f"these tasks would run without checkpoints: {', '.join(names)}; their class replaces __call__, retry, "
            "replace or add_to_chord after Celery has bound it",
            hint="Make such changes in the class itself, or before Cascades(app)",
        )


def _or_stop(controller: Any, work: Callable[[], None]) -> None:
    """Do `work`; if it fails, the worker stops. Celery would only log the exception, and run on without us."""
    try:
        work()
    except CascadeError as error:
        _stop(controller, error.exit_code, error)
    except Exception as error:  # noqa: BLE001  whatever it is, a worker without its row would lose steps
        _stop(controller, 1, error)


def _stop(controller: Any, code: int, error: Exception) -> NoReturn:
    """SystemExit is what Celery's signals let through. Before it is ready, a worker has not set up its log yet."""
    setup_logging = getattr(controller, "setup_logging", None)
    if setup_logging is not None and controller.blueprint is None:
        setup_logging()
    unexpected = None if isinstance(error, CascadeError) else error
    logger.critical("[cascade] this worker does not start: %s", error, exc_info=unexpected)
    raise SystemExit(code)


HANDLERS = {
    "worker_init": on_worker_init,
    "worker_ready": on_worker_ready,
    "worker_shutting_down": on_worker_shutting_down,
    "worker_shutdown": on_worker_shutdown,
}
