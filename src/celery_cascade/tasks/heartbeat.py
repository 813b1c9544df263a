"""The heartbeat: a thread of the worker's main process that says "alive", whatever else the process is busy with."""

from __future__ import annotations

import logging
import threading

from celery_cascade.errors import CascadeError
from celery_cascade.persistence.rows import WorkerRow
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.ticking import Witness

logger = logging.getLogger("celery_cascade")

#: Seconds that the end of a worker waits for one of its threads; they are daemons, so that none can keep it alive.
JOIN = 5.0


class Complaints:
    """An error that comes back with every tick is logged once, and once more when it has gone."""

    def __init__(self) -> None:
        self._open: dict[str, type[BaseException]] = {}

    def failed(self, what: str, error: BaseException) -> None:
        """`what` did not work."""
        if self._open.get(what) is type(error):
            return
        self._open[what] = type(error)
        if isinstance(error, CascadeError):
            logger.error("%s does not work for now, and is tried again: %s", what, error)
        else:
            logger.error("%s does not work for now, and is tried again", what, exc_info=error)

    def worked(self, what: str) -> None:
        """`what` did work."""
        if self._open.pop(what, None) is not None:
            logger.info("%s works again", what)


class Heartbeat:
    """Renews the worker's row every `cascade_heartbeat_interval`.

    It has a thread to itself: a sweep that sends thousands of messages would delay a beat for so long that others
    took this worker for dead. Without it they do so after `cascade_heartbeat_timeout`, and its steps run twice.
    """

    def __init__(self, runtime: Runtime, row: WorkerRow, witness: Witness) -> None:
        self._runtime = runtime
        self._row = row
        self._witness = witness
        self._complaints = Complaints()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cascade-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin; the first beat comes at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, before the goodbye: a beat after it would bring the worker's row back to life."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=JOIN)

    def _run(self) -> None:
        while True:
            self.beat()
            if self._stop.wait(self._runtime.config.heartbeat_interval):
                return

    def beat(self) -> None:
        """One beat. If the row is gone (pruned while the database was away for days), it is written again."""
        try:
            if not self._runtime.store.beat(self._row.id):
                self._runtime.store.add_worker(self._row)
        except Exception as error:  # noqa: BLE001  nothing may end the thread; tried again at the next beat
            self._witness.beat_failed()
            self._complaints.failed("the worker's heartbeat", error)
        else:
            self._witness.beat_succeeded()
            self._complaints.worked("the worker's heartbeat")
