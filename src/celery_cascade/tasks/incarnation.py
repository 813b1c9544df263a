"""One life of a worker: its row, its two threads, the facts they are told, and the goodbye."""

from __future__ import annotations

import logging
import os
import uuid
from typing import Any

from celery_cascade.errors import CascadeError
from celery_cascade.tasks import identity, recovery, signals
from celery_cascade.tasks.facts import Facts
from celery_cascade.tasks.forking import FORKS
from celery_cascade.tasks.heartbeat import Heartbeat
from celery_cascade.tasks.pools import liveness, pool_name
from celery_cascade.tasks.rounds import Rounds
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.ticking import Witness

logger = logging.getLogger("celery_cascade")


class Incarnation:
    """What is ours in a worker's main process.

    Args:
        runtime: of the worker's app.
        controller: Celery's WorkController.
    """

    def __init__(self, runtime: Runtime, controller: Any) -> None:
        self.runtime = runtime
        self.nodename = str(controller.hostname)
        self._process = os.getpid()
        self._pool = pool_name(controller.pool_cls)
        self._facts = Facts()
        self._row = identity.new_worker_row(
            worker_id=str(uuid.uuid4()),
            nodename=self.nodename,
            pool=self._pool,
            capacity=_capacity(controller),
            tasks=runtime.app.tasks,
            queues=runtime.app.amqp.queues.consume_from,
        )
        config = runtime.config
        witness = Witness(interval=config.heartbeat_interval, timeout=config.heartbeat_timeout)
        self._heartbeat = Heartbeat(runtime, self._row, witness)
        self._rounds = Rounds(runtime, witness, self._facts)
        self._ended = False

    def begin(self) -> None:
        """Before the pool starts, so that its children inherit whose they are. Raises CascadeError."""
        self.runtime.store.add_worker(self._row)
        self.runtime.enter_worker(self._row.id)
        if self._pool == "prefork":
            FORKS.protect(self.runtime.store.database)
        signals.listen(self.runtime.app, self._facts)

    def ready(self) -> None:
        """The worker takes messages from now on. Nothing here waits: all the work is the threads'."""
        self._heartbeat.start()
        self._rounds.start()

    def end(self) -> None:
        """After the pool has stopped: what was not finished is given back, then the row says goodbye. Once only."""
        if self._ended or self._process != os.getpid():
            return
        self._ended = True
        signals.deafen(self.runtime.app)
        self._rounds.stop()
        self._heartbeat.stop()
        FORKS.release(self.runtime.store.database)  # a thread that still waits for the database holds nobody up now
        try:
            self._give_back()
            self.runtime.store.stop_worker(self._row.id)
        except CascadeError as error:
            logger.warning("could not say goodbye to the store; others will notice: %s", error)
        self.runtime.enter_worker(None)

    def _give_back(self) -> None:
        for fact in self._facts.rest():
            self._rounds.note(fact)
        recovery.audit(self.runtime, liveness(self.runtime))


def _capacity(controller: Any) -> int:
    """How many messages it may hold in memory: what it runs and what it has fetched ahead."""
    concurrency = controller.concurrency
    if not isinstance(concurrency, int):  # "auto", which Celery works out later
        concurrency = os.cpu_count() or 1
    return int(concurrency) * (1 + int(controller.prefetch_multiplier or 0))
