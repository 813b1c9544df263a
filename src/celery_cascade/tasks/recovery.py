"""Recovery belongs to nobody and to everybody (rule 6): each function may be run by anybody, at any time, twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from celery_cascade import events
from celery_cascade.engine.retry import after_failure, crash_delay, error_names
from celery_cascade.errors import CascadeError, ClaimLost, StoreUnavailable
from celery_cascade.persistence.rows import ClaimedStep, Moved, Orphan, QueuedStep, Setback, StepKey
from celery_cascade.states import Halt, SuspendReason
from celery_cascade.tasks import identity, not_repeated
from celery_cascade.tasks.attempt import NO_ITEM, StepRef
from celery_cascade.tasks.pools import liveness
from celery_cascade.tasks.problems import problem_text, told
from celery_cascade.tasks.publish import is_driving
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.settling import settle

logger = logging.getLogger("celery_cascade")

#: Rows that one look takes at most; the next look takes the rest.
BATCH = 200
#: Seconds until the message of a step that lost its worker is sent again. Soon, because the first may go the way of
#: the worker: Redis hands it to a connection that the dead worker's children still hold open for an instant.
AFTER_CRASH = 5.0
#: Batches of due steps that one sweep sends at most, so that it ends.
MOST_BATCHES = 25
#: What a policy's `errors` may call a timeout of ours.
TIMEOUT_NAMES = error_names(TimeoutError()) | {"TimeLimitExceeded", "StepTimeout"}


@dataclass(slots=True, kw_only=True)
class RecoveryReport:
    """What one look for orphans found."""

    workers_gone: int = 0
    released: int = 0
    timed_out: int = 0
    settled: int = 0
    woken: int = 0
    resumed: set[str] = field(default_factory=set)  #: sessions of which a step was given back

    @property
    def anything(self) -> bool:
        """Whether there was something to do."""
        return any((self.workers_gone, self.released, self.timed_out, self.settled, self.woken))


def send_due(runtime: Runtime, of: set[str] | None = None) -> int:
    """Send what is due: retries whose moment has come, messages that nobody claimed.

    Args:
        of: the ids of the sessions that they belong to are added here.
    """
    sent = 0
    for _ in range(MOST_BATCHES):
        due = runtime.store.take_due(worker=runtime.worker_id, first=runtime.config.resend_after, limit=BATCH)
        if of is not None:
            of.update(step.key.session_id for step in due)
        sent += runtime.publisher.send(due)
        if len(due) < BATCH:
            break
    return sent


def recover_session(runtime: Runtime, session_id: str) -> int:
    """Take back one session's steps from workers that are certainly dead: for whoever runs it in this process."""
    _bury_the_gone(runtime, RecoveryReport())
    mine = [o for o in runtime.store.orphans(silent_for=None, limit=BATCH) if o.key.session_id == session_id]
    released = sum(give_back(runtime, orphan, _lost_worker(orphan), certain=False) for orphan in mine)
    not_repeated.tell(runtime, [session_id] if released else [])
    return released


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
    for orphan in runtime.store.orphans(silent_for=silent, limit=BATCH):
        if orphan.worker:
            dead.add(orphan.worker)
        if give_back(runtime, orphan, _lost_worker(orphan), certain=False):
            report.released += 1
            report.resumed.add(orphan.key.session_id)
    not_repeated.tell(runtime, report.resumed)
    report.woken += runtime.store.wake_queued_by(sorted(dead - {runtime.worker_id or ""}))
    report.woken += runtime.store.wake_forsaken()
    report.timed_out += _end_overdue(runtime)
    for session_id in runtime.store.unsettled(limit=BATCH):
        report.settled += settle(runtime, session_id) is not None
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
                logger.warning("worker %s (pid %d) is gone; its steps go on elsewhere", row.nodename, row.pid)
                report.workers_gone += 1
                report.woken += runtime.store.wake_oldest(row.capacity)
            dead.add(row.id)
    return dead


def ref_of(orphan: Orphan) -> StepRef:
    """Which attempt it is, for error texts."""
    key = orphan.key
    return StepRef(store="", session=key.session_id, step=key.step, item=key.item, attempt=orphan.attempt, task_id="")


def give_back(runtime: Runtime, orphan: Orphan, error: str, *, certain: bool, crash: bool = True) -> bool:
    """Queue an orphan again and send it; suspend its session if it has crashed too often.

    Args:
        certain: nobody runs it, whatever the worker's heartbeat says; else the UPDATE tests the heartbeat again.
        crash: whether it counts against `cascade_max_crashes`.
    """
    crashes = orphan.crashes + int(crash)
    if crash and crashes >= runtime.config.max_crashes:
        return _park(runtime, orphan, SuspendReason.POISONED, error, certain=certain)
    if orphan.halt is not None:
        return _park(runtime, orphan, None, None, certain=certain, crash=crash)
    delay = crash_delay(crashes) if crash else 0.0
    released = runtime.store.release(
        orphan,
        error=error,
        delay=delay,
        worker=runtime.worker_id,
        resend_after=None if is_driving(orphan.key.session_id) else min(AFTER_CRASH, runtime.config.resend_after),
        silent_for=None if certain else runtime.config.heartbeat_timeout,
        crash=crash,
    )
    if released:
        logger.warning(
            "session %s: step %s lost its worker in attempt %d and is queued again",
            orphan.key.session_id,
            orphan.key.step,
            orphan.attempt,
        )
        if not delay:
            runtime.publisher.send([_next_attempt(orphan.key, orphan.task, orphan.attempt)])
        events.session_resumed.send(runtime.app, session_id=orphan.key.session_id, step=orphan.key.step)
    return released


def _next_attempt(key: StepKey, task: str, attempt: int, retries: int = 0) -> QueuedStep:
    return QueuedStep(key=key, task=task, attempt=attempt + 1, retries=retries)


def _park(
    runtime: Runtime,
    orphan: Orphan,
    reason: SuspendReason | None,
    error: str | None,
    *,
    certain: bool,
    crash: bool = True,
) -> bool:
    silent_for = None if certain else runtime.config.heartbeat_timeout
    parked = runtime.store.park(orphan, reason=reason, error=error, silent_for=silent_for, crash=crash)
    if parked:
        settle(runtime, orphan.key.session_id)
    return parked


def _end_overdue(runtime: Runtime) -> int:
    ended = 0
    for orphan in runtime.store.overdue(limit=BATCH):
        try:
            ended += time_out(runtime, orphan)
        except StoreUnavailable:
            raise
        except CascadeError as error:  # its definition cannot be read: the others are not to wait for that
            logger.error("session %s: step %s is overdue: %s", orphan.key.session_id, orphan.key.step, error)
    return ended


def end_overdue_of(runtime: Runtime, session_id: str) -> None:
    """End what is over its time in one session: for whoever runs it in this process."""
    for orphan in runtime.store.overdue(limit=BATCH):
        if orphan.key.session_id == session_id:
            time_out(runtime, orphan)
    expires_at = runtime.store.head(session_id)["expires_at"]
    if expires_at is not None and expires_at <= runtime.store.now():
        expire_session(runtime, session_id)


def time_out(runtime: Runtime, orphan: Orphan) -> bool:
    """End an attempt that took longer than its step's `timeout`; whatever still runs it is fenced from now on."""
    step = runtime.facts(orphan.key.session_id).plan.steps[orphan.key.step]
    delay = after_failure(step.retry, orphan.failures + 1, TIMEOUT_NAMES)
    message = f"step {orphan.key.step!r} took longer than its timeout of {step.timeout:g} s" if step.timeout else (
        f"step {orphan.key.step!r} was killed by its hard time limit"
    )  # fmt: skip
    what = Setback(
        key=orphan.key,
        token=orphan.token,
        kind="timeout",
        delay=delay,
        error=problem_text("StepTimeout", message, ref_of(orphan)),
        failures=1,
        worker=runtime.worker_id,
        resend_after=runtime.config.resend_after,
    )
    try:
        moved = runtime.store.setback(what)
    except ClaimLost:
        return False
    if delay is None:
        _tell_failed(runtime, what, orphan.attempt)
    if delay == 0:
        runtime.publisher.send([_next_attempt(orphan.key, orphan.task, orphan.attempt)])
    if moved.halt is not None:
        settle(runtime, orphan.key.session_id)
    return True


def after_setback(runtime: Runtime, what: Setback, moved: Moved, claimed: ClaimedStep) -> None:
    """What follows the commit of a failure or retry: the next message, or the session's end."""
    if what.delay is None:
        _tell_failed(runtime, what, claimed.attempt)
    elif what.delay == 0 and moved.halt is None:
        again = _next_attempt(what.key, claimed.task, claimed.attempt, claimed.retries + what.retries)
        runtime.publisher.send([again])
    if moved.halt is not None:
        settle(runtime, what.key.session_id)


def _tell_failed(runtime: Runtime, what: Setback, attempt: int) -> None:
    item = None if what.key.item == NO_ITEM else what.key.item
    events.step_failed.send(
        runtime.app, session_id=what.key.session_id, step=what.key.step, item=item, attempt=attempt,
        error=told(what.error),
    )  # fmt: skip


def audit(runtime: Runtime, is_live: Callable[[Orphan], bool]) -> int:
    """Give back what this worker is said to run but nobody in it does. Rows are read before the runners are."""
    if runtime.worker_id is None:
        return 0
    rows = runtime.store.running_on(runtime.worker_id)
    resumed = []
    for orphan in rows:
        if not is_live(orphan):
            pid = (orphan.runner or "?").partition(".")[0]
            text = f"process {pid} of worker {_worker(orphan)}, which ran the step, is gone"
            error = problem_text("WorkerLost", text, ref_of(orphan))
            if give_back(runtime, orphan, error, certain=True):
                resumed.append(orphan.key.session_id)
    not_repeated.tell(runtime, resumed)
    return len(resumed)


def attempt_lost(runtime: Runtime, ref: StepRef, reason: str, error: str) -> None:
    """What the main process learned of a child's work: it is gone, or was killed by its hard time limit."""
    orphan = runtime.store.one_running(StepKey(ref.session, ref.step, ref.item), ref.attempt)
    if orphan is None or orphan.worker != runtime.worker_id:
        return
    if reason == "timeout":
        time_out(runtime, orphan)
    elif not liveness(runtime)(orphan):  # else it was a duplicate's process, and the step runs in another
        # A cold shutdown is somebody's wish and no fault of the step: it does not count towards `poisoned`.
        crash = reason != "cancelled"
        if give_back(runtime, orphan, problem_text("WorkerLost", error, ref), certain=True, crash=crash):
            not_repeated.tell(runtime, [ref.session])


def expire(runtime: Runtime) -> int:
    """Bring sessions whose `expires_at` has passed to their end: at once, or after the step that runs."""
    expired = 0
    for _ in range(MOST_BATCHES):
        found = runtime.store.past_expiry(limit=BATCH)
        for session_id in found:
            try:
                expired += expire_session(runtime, session_id)
            except StoreUnavailable:
                raise
            except CascadeError as error:  # deleted meanwhile, or damaged: the others are not to wait for that
                logger.error("session %s has expired: %s", session_id, error)
        if len(found) < BATCH:
            break
    return expired


def expire_session(runtime: Runtime, session_id: str) -> bool:
    """Let one session expire; whether it has come to its end."""
    runtime.store.halt(session_id, Halt.EXPIRED, None)
    return settle(runtime, session_id) is not None
