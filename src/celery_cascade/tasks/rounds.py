"""A worker's rounds: due messages, orphans, its own lost steps, expired sessions, and what signals have told it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from celery_cascade import embedded
from celery_cascade.calling import command
from celery_cascade.persistence import migrate
from celery_cascade.states import FINAL_SESSION
from celery_cascade.tasks import not_repeated, overtime, recovery, unknown_task
from celery_cascade.tasks.facts import Fact, Facts
from celery_cascade.tasks.heartbeat import JOIN, Complaints
from celery_cascade.tasks.pools import liveness
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.ticking import Timetable, Witness

logger = logging.getLogger("celery_cascade")

#: Seconds between two looks for sessions whose `expires_at` has passed.
EXPIRE_INTERVAL = 60.0
#: Workers look a little more often than a shared sweep is due, or two that tick together would both come too early.
EARLY = 0.8
_FIRST = "the first look for work that was left"


class Rounds:
    """The second thread of a worker's main process; see `Heartbeat` for the first.

    Everything here may be done by every worker at once, and by Beat besides (rule 6). Sweeps are shared only to spare
    the database.
    """

    def __init__(
        self, runtime: Runtime, witness: Witness, facts: Facts, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._runtime = runtime
        self._witness = witness
        self._facts = facts
        self._complaints = Complaints()
        self._stopping = False
        self._is_live = liveness(runtime)
        config = runtime.config
        self._duties: dict[str, tuple[float, Callable[[], object]]] = {
            "sending what is due": (config.timer_interval, self.send_due),
            "the look for steps of dead workers": (config.orphan_interval, self.recover),
            "the audit of this worker's steps": (config.orphan_interval, self.audit),
            "ending expired sessions": (EXPIRE_INTERVAL, self.expire),
        }
        self._timetable = Timetable({name: interval for name, (interval, _) in self._duties.items()}, clock=clock)
        self._thread = threading.Thread(target=self._run, name="cascade-rounds", daemon=True)

    def start(self) -> None:
        """Begin with a look for whatever an earlier worker left behind."""
        self._thread.start()

    def stop(self) -> None:
        """End after the duty that is under way."""
        self._stopping = True
        self._facts.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=JOIN)

    def _run(self) -> None:
        begun = self._try(_FIRST, self.first)
        while not self._stopping:
            fact = self._facts.wait(self._timetable.wait())
            if fact is not None:
                self.note(fact)
            begun = begun or self._try(_FIRST, self.first)
            for name in self._timetable.due():
                if self._stopping:
                    return
                self._try(name, self._duties[name][1])

    def _try(self, what: str, duty: Callable[[], object]) -> bool:
        """Do a duty; whether it worked."""
        try:
            duty()
        except Exception as error:  # noqa: BLE001  nothing may end the thread; the duty is done at its next turn
            self._complaints.failed(what, error)
            return False
        self._complaints.worked(what)
        return True

    # -- the duties
    def first(self) -> None:
        """At the start, whoever else has just looked: a restart on the same machine goes on at once."""
        report = recovery.recover(self._runtime, witness=False)
        resumed = set(report.resumed)
        unknown_task.wake(self._runtime, self._runtime.app.tasks)
        recovery.send_due(self._runtime, resumed)
        not_repeated.tell(self._runtime, resumed - report.resumed)
        store = self._runtime.store
        unfinished = sum(count for status, count in store.open_counts().items() if status not in FINAL_SESSION)
        logger.info(
            "[cascade] %s schema %s, %d open sessions, %d resumed",
            store.database.shown,
            migrate.current(store.database),
            unfinished,
            len(resumed),
        )

    def send_due(self) -> None:
        """Messages of retries whose moment has come, and of steps that nobody has claimed."""
        if self._begin("timers", self._runtime.config.timer_interval):
            recovery.send_due(self._runtime)

    def recover(self) -> None:
        """Steps of dead workers. A witness and the others share a sweep each, or none might ever judge by age."""
        witness = self._witness.may_judge
        if self._begin("orphans" if witness else "orphans_certain", self._runtime.config.orphan_interval):
            recovery.recover(self._runtime, witness=witness)

    def audit(self) -> int:
        """Steps that this worker is said to run, and does not."""
        return recovery.audit(self._runtime, self._is_live)

    def expire(self) -> None:
        """Sessions past their `expires_at`; and what the embedded broker keeps of messages long delivered."""
        if self._begin("expire", EXPIRE_INTERVAL):
            overtime.expire(self._runtime)
            embedded.prune_spent(self._runtime.app)

    def _begin(self, sweep: str, interval: float) -> bool:
        return self._runtime.store.begin_sweep(sweep, EARLY * interval)

    def note(self, fact: Fact) -> None:
        """Write down what a signal has told."""
        if fact.reason == "unknown":
            self._try("delaying a message", lambda: unknown_task.delay(self._runtime, fact.ref, fact.text))
            return
        if fact.reason == "dropped":
            logger.warning(
                "session %s: the message of step %s is gone (%s); it is sent again in a while. "
                "To end the session instead: %s",
                fact.ref.session,
                fact.ref.step,
                fact.text,
                command(f"cancel {fact.ref.session}"),
            )
            return
        self._try(
            "recording a lost attempt",
            lambda: recovery.attempt_lost(self._runtime, fact.ref, fact.reason, fact.text),
        )
