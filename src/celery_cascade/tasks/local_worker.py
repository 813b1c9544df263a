"""Being a worker without `celery worker`: a row with a heartbeat, so that others neither take our steps nor wait."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from billiard.process import current_process

from celery_cascade.errors import CascadeError
from celery_cascade.persistence.rows import WorkerRow
from celery_cascade.tasks import identity
from celery_cascade.tasks.runtime import Runtime

logger = logging.getLogger("celery_cascade")


#: One life for all who drive in this process at once: the last to leave says goodbye.
_LIVES: WeakKeyDictionary[Runtime, _Life] = WeakKeyDictionary()
_lock = threading.RLock()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    _LIVES.clear()


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def local_worker(runtime: Runtime) -> Iterator[None]:
    """Be a worker inside, unless this process is one already."""
    life = None if _is_worker(runtime) else _begin(runtime)
    try:
        yield
    finally:
        if life is not None:
            _leave(runtime, life)


def become_worker(runtime: Runtime) -> str:
    """Be a worker until this process ends: Celery runs our steps here, but never said that a worker begins.

    So do `celery.contrib.testing` and programs that embed a WorkController.
    """
    life = _begin(runtime)
    atexit.register(_leave, runtime, life)
    return life.row.id


def _is_worker(runtime: Runtime) -> bool:
    """Whether Celery runs us as a worker. A program that a step has started only inherits the environment."""
    if runtime in _LIVES or runtime.worker_id is None:
        return False
    return not (runtime.inherits_worker and current_process().name == "MainProcess")


def _begin(runtime: Runtime) -> _Life:
    with _lock:
        life = _LIVES.get(runtime)
        if life is None:
            life = _LIVES[runtime] = _Life(runtime)
        life.users += 1
        return life


def _leave(runtime: Runtime, life: _Life) -> None:
    with _lock:
        life.users -= 1
        if life.users == 0 and _LIVES.get(runtime) is life:
            del _LIVES[runtime]
            life.end()


class _Life:
    """From the row's insert to its goodbye."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._process = os.getpid()
        self.users = 0
        self._stop = threading.Event()
        self.row: WorkerRow = identity.new_worker_row(
            worker_id=str(uuid.uuid4()),
            nodename=f"here@{identity.host()}",
            pool="here",
            capacity=0,
            tasks=runtime.app.tasks,
        )
        runtime.store.add_worker(self.row)
        runtime.enter_worker(self.row.id)
        self._thread = threading.Thread(target=self._beat, name="cascade-heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(self._runtime.config.heartbeat_interval):
            try:
                if not self._runtime.store.beat(self.row.id):
                    self._runtime.store.add_worker(self.row)
            except CascadeError as error:
                logger.warning("heartbeat failed: %s", error.message)
            except Exception:  # without beats others would take this run for dead, and its steps would run twice
                logger.exception("heartbeat failed")

    def end(self) -> None:
        """Stop beating and say goodbye; nothing in a forked child, whose parent lives on."""
        if self._process != os.getpid():
            return
        self._stop.set()
        self._thread.join(timeout=self._runtime.config.heartbeat_timeout)
        self._runtime.enter_worker(None)
        try:
            self._runtime.store.stop_worker(self.row.id)
        except CascadeError as error:
            logger.warning("could not say goodbye to the store; others will notice: %s", error.message)
