"""Recovery belongs to nobody and to everybody (rule 6): each function may be run by anybody, at any time, twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.persistence.rows import Orphan, StepKey
from celery_cascade.tasks import identity, not_repeated, overtime, restored, turns, unknown_task
from celery_cascade.tasks.attempt import StepRef
from celery_cascade.tasks.fate import Fate, give_back, ref_of
from celery_cascade.tasks.overtime import BATCH, MOST_BATCHES
from celery_cascade.tasks.pools import liveness
from celery_cascade.tasks.problems import problem_text
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.settling import settle

logger = logging.getLogger("celery_cascade")


@dataclass(slots=True, kw_only=True)
class RecoveryReport:
    """What one look for orphans found."""

    workers_gone: int = 0
    released: int = 0  #: steps taken from dead workers, whatever became of them
    timed_out: int = 0
    settled: int = 0
    woken: int = 0
    resumed: set[str] = field(default_factory=set)  #: sessions of which a step was queued again
    begun: list[str] = field(default_factory=list)  #: sessions whose turn in their thread had come

    @property
    def anything(self) -> bool:
        """Whether there was something to do."""
        return any((self.workers_gone, self.released, self.timed_out, self.settled, self.woken, self.begun))


def send_due(runtime: Runtime, of: set[str] | None = None) -> int:
    """Send what is due: retries whose moment has come, messages that nobody claimed.

    Args:
        of: the ids of the sessions that they belong to are added here.
    """
    sent = 0
    for _ in range(MOST_BATCHES):
        due = runtime.store.take_due(worker=runtime.worker_id, first=runtime.config.resend_after, limit=BATCH)
        if due:
            reached(CrashPoint.TIMER_TAKEN)
        if of is not None:
            of.update(step.key.session_id for step in due)
        sent += runtime.publisher.send(due)
        unknown_task.insist(runtime, [step for step in due if step.dropped])
        if len(due) < BATCH:
            break
    return sent


def recover_session(runtime: Runtime, session_id: str) -> int:
    """Take back one session's steps from workers that are certainly dead: for whoever runs it in this process."""
    _bury_the_gone(runtime, RecoveryReport())
    orphans = runtime.store.orphans_of(session_id)
    fates = [give_back(runtime, orphan, _lost_worker(orphan), certain=False) for orphan in orphans]
    not_repeated.tell(runtime, [session_id] if Fate.QUEUED in fates else [])
    return sum(fate is not None for fate in fates)


def recover(runtime: Runtime, *, witness: bool) -> RecoveryReport:
    """Give back the steps of dead workers, end what is over its time, finish what was left unfinished.

    Args:
        witness: whether the caller may judge others by the age of their heartbeat: only one whose own
            heartbeats have succeeded without a gap for one timeout.
    """
    report = RecoveryReport()
    dead = _bury_the_gone(runtime, report)
    timeout = runtime.config.heartbeat_timeout
    silent = timeout if witness else None
    if witness:
        dead |= {row.id for row in runtime.store.running_workers() if row.silent_for > timeout}
    found = [
        # We live, whatever a clock that was set makes of our last beat; the audit knows what we run.
        orphan
        for orphan in runtime.store.orphans(silent_for=silent, limit=BATCH)
        if orphan.worker is None or orphan.worker != runtime.worker_id
    ]
    for orphan in found:
        if orphan.worker:
            dead.add(orphan.worker)
        fate = give_back(runtime, orphan, _lost_worker(orphan), certain=False)
        if fate is not None:
            report.released += 1
            if fate is Fate.QUEUED:
                report.resumed.add(orphan.key.session_id)
            reached(CrashPoint.RECOVERY_HALF, orphan.key)
    restored.tell(runtime, found)
    not_repeated.tell(runtime, report.resumed)
    report.woken += runtime.store.wake_queued_by(sorted(dead - {runtime.worker_id or ""}))
    report.woken += runtime.store.wake_forsaken()
    report.timed_out += overtime.end_overdue(runtime)
    for session_id in runtime.store.unsettled(limit=BATCH):
        report.settled += settle(runtime, session_id) is not None
    report.begun = turns.begin_ready(runtime)
    return report


def _lost_worker(orphan: Orphan) -> str:
    return problem_text("WorkerLost", f"worker {_worker(orphan)} died while it ran the step", ref_of(orphan))


def _worker(orphan: Orphan) -> str:
    return orphan.nodename or orphan.worker or "unknown"


def _bury_the_gone(runtime: Runtime, report: RecoveryReport) -> set[str]:
    """Write down the workers of this host whose process is certainly gone; wake what they held in memory."""
    dead = set()
    for row in runtime.store.running_workers():
        if row.id != runtime.worker_id and identity.gone_for_certain(row):
            if runtime.store.stop_worker(row.id):
                logger.warning("worker %s (pid %d) is gone; its steps are taken from it", row.nodename, row.pid)
                report.workers_gone += 1
                reached(CrashPoint.BURIED)
                report.woken += runtime.store.wake_oldest(row.capacity)
            dead.add(row.id)
    return dead


def audit(runtime: Runtime, is_live: Callable[[Orphan], bool]) -> int:
    """Give back what this worker is said to run but nobody in it does. Rows are read before the runners are."""
    if runtime.worker_id is None:
        return 0
    rows = runtime.store.running_on(runtime.worker_id)
    lost = [orphan for orphan in rows if not is_live(orphan)]
    fates: list[Fate] = []
    resumed = []
    for orphan in lost:
        pid = (orphan.runner or "?").partition(".")[0]
        text = f"process {pid} of worker {_worker(orphan)}, which ran the step, is gone"
        error = problem_text("WorkerLost", text, ref_of(orphan))
        fate = give_back(runtime, orphan, error, certain=True)
        fates += [fate] if fate is not None else []
        resumed += [orphan.key.session_id] if fate is Fate.QUEUED else []
    restored.tell(runtime, lost)
    not_repeated.tell(runtime, resumed)
    return len(fates)


def attempt_lost(runtime: Runtime, ref: StepRef, reason: str, error: str) -> None:
    """What the main process learned of a child's work: it is gone, or was killed by its hard time limit."""
    orphan = runtime.store.one_running(StepKey(ref.session, ref.step, ref.item), ref.attempt)
    if orphan is None or orphan.worker != runtime.worker_id:
        return
    if reason == "timeout":
        overtime.time_out(runtime, orphan)
    elif not liveness(runtime)(orphan):  # else it was a duplicate's process, and the step runs in another
        # A cold shutdown is somebody's wish and no fault of the step: it does not count towards `poisoned`.
        crash = reason != "cancelled"
        fate = give_back(runtime, orphan, problem_text("WorkerLost", error, ref), certain=True, crash=crash)
        if fate is Fate.QUEUED:
            not_repeated.tell(runtime, [ref.session])
