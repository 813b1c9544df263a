"""The store: every transaction of the six rules behind one object. It knows SQL and rows, no plan and no Celery."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from celery_cascade.persistence import (
    answer,
    checkpoint,
    claim,
    context,
    deleting,
    family,
    forebears,
    fork,
    head,
    leftovers,
    lineage,
    listing,
    liveness,
    mappings,
    mend,
    messages,
    origin,
    orphans,
    past,
    payloads,
    queueing,
    recoveries,
    setback,
    start,
    topics,
    unknown,
    versions,
    views,
    wake,
    waking,
    watching,
)
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.deleting import Member
from celery_cascade.persistence.fork import NewFork
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.origin import Origin
from celery_cascade.persistence.prune import Pruning
from celery_cascade.persistence.prune_rules import Rules
from celery_cascade.persistence.rows import (
    Answer,
    Answered,
    Checkpoint,
    ClaimedStep,
    Moved,
    NewMessage,
    NewSession,
    NewStep,
    Orphan,
    QueuedStep,
    Row,
    Setback,
    StepKey,
    WorkerRow,
)
from celery_cascade.persistence.unreadable import Unreadable, unreadable
from celery_cascade.states import Halt, SessionStatus, SuspendReason


class Store:
    """The durable side of sessions.

    Args:
        database: where the tables are.
        clock: a moment for every statement, for tests; None = the database's own clock.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime] | None = None) -> None:
        self.database = database
        self._moment = clock

    @property
    def _clock(self) -> dict[str, Any]:
        return {"clock": None if self._moment is None else self._moment()}

    # -- a session's way
    def start(
        self, new: NewSession, rows: Sequence[NewStep], *, worker: str | None = None, resend_after: float | None = 60.0
    ) -> bool:
        """Write a new session; SessionConflict if its id or idempotency key is taken."""
        return start.start_session(
            self.database, new, rows, worker=worker, resend_after=resend_after, clock=self._clock
        )

    def fork(
        self,
        new: NewSession,
        taken: NewFork,
        rows: Sequence[NewStep],
        *,
        worker: str | None = None,
        resend_after: float | None = 60.0,
    ) -> bool:
        """Write a session that begins with steps of another, of which no row changes; SessionConflict as `start`."""
        return fork.fork_session(
            self.database, new, taken, rows, worker=worker, resend_after=resend_after, clock=self._clock
        )

    def origin(self, session_id: str) -> Origin:
        """How a session's steps stand, for a fork; SessionNotFound."""
        return origin.read_origin(self.database, session_id)

    def turns(self, session_id: str) -> list[str]:
        """The sessions of its conversation up to this one."""
        return origin.turns_of(self.database, session_id)

    def claim(
        self,
        key: StepKey,
        *,
        attempt: int,
        token: str,
        worker: str,
        runner: str,
        timeout: float | None = None,
        on_crash: str | None = None,
    ) -> ClaimedStep | None:
        """Take a queued attempt; None if it is not there to be taken."""
        return claim.claim_step(
            self.database,
            key,
            attempt=attempt,
            token=token,
            worker=worker,
            runner=runner,
            timeout=timeout,
            on_crash=on_crash,
            clock=self._clock,
        )

    def checkpoint(self, done: Checkpoint) -> Moved:
        """Record a step's end and what follows; ClaimLost for a late writer."""
        return checkpoint.write_checkpoint(self.database, done, clock=self._clock)

    def setback(self, what: Setback) -> Moved:
        """Record an attempt that did not succeed; ClaimLost for a late writer."""
        return setback.write_setback(self.database, what, clock=self._clock)

    def release(
        self,
        orphan: Orphan,
        *,
        error: str | None,
        delay: float = 0.0,
        worker: str | None = None,
        resend_after: float | None = 60.0,
        silent_for: float | None = None,
        crash: bool = True,
    ) -> bool:
        """Queue a dead worker's step again; False if another recovery was first or its session halts."""
        return setback.release_orphan(
            self.database,
            orphan.key,
            orphan.token,
            error=error,
            delay=delay,
            worker=worker,
            resend_after=resend_after,
            silent_for=silent_for,
            crash=crash,
            clock=self._clock,
        )

    def park(
        self,
        orphan: Orphan,
        *,
        reason: SuspendReason | None,
        error: str | None = None,
        silent_for: float | None = None,
        crash: bool = True,
    ) -> bool:
        """Take a dead worker's step without queueing it; settle the session afterwards."""
        return head.park_orphan(
            self.database,
            orphan.key,
            orphan.token,
            reason=reason,
            error=error,
            silent_for=silent_for,
            crash=crash,
            clock=self._clock,
        )

    def halt(self, session_id: str, halt: Halt, reason: str | None, action: Action | None = None) -> SessionStatus:
        """Ask a session to end or suspend; settle it afterwards. Returns the status found."""
        return head.halt_session(self.database, session_id, halt, reason, action, clock=self._clock)

    def settle(self, session_id: str, *, output: str | None = None, error: str | None = None) -> SessionStatus | None:
        """Write a session's end if nothing of it is left to run; None if it is not there yet."""
        status = head.settle_session(self.database, session_id, output=output, error=error, clock=self._clock)
        if status is not None:
            context.fold_context(self.database, session_id, self._clock)
        return status

    def revive(
        self,
        session_id: str,
        action: Action | None = None,
        *,
        worker: str | None = None,
        resend_after: float | None = 60.0,
        its_turn: bool = False,
    ) -> tuple[SessionStatus, list[QueuedStep]]:
        """Queue the parked and failed steps of a suspended or failed session; `its_turn`: only of one that waits."""
        return head.revive_session(
            self.database,
            session_id,
            action,
            worker=worker,
            resend_after=resend_after,
            its_turn=its_turn,
            clock=self._clock,
        )

    def answer(
        self,
        given: Answer,
        action: Action,
        *,
        worker: str | None = None,
        resend_after: float | None = 60.0,
    ) -> Answered:
        """What an operator says of a parked step; SessionConflict if it does not wait for that (any more)."""
        return answer.answer_step(
            self.database, given, action, worker=worker, resend_after=resend_after, clock=self._clock
        )

    # -- threads
    def mapping(self, thread_id: str, resource_id: str) -> Row | None:
        """The row of a (thread, resource) pair."""
        return mappings.mapping_of(self.database, thread_id, resource_id)

    def mappings(self, resource_id: str, *, limit: int = 50, before: mappings.Place | None = None) -> list[Row]:
        """A page of a resource's threads, the one used last first."""
        return mappings.mappings_of(self.database, resource_id, limit=limit, before=before)

    def save_mapping(self, thread_id: str, resource_id: str, session_id: str) -> None:
        """Point a pair at a session; SessionNotFound."""
        mappings.save_mapping(self.database, thread_id, resource_id, session_id, clock=self._clock)

    def delete_mapping(self, thread_id: str, resource_id: str) -> bool:
        """Forget a pair; False if there was none."""
        return mappings.delete_mapping(self.database, thread_id, resource_id)

    def turn_after(self, session_id: str) -> str | None:
        """Who waits next in the conversation of a session that has ended."""
        return queueing.turn_after(self.database, session_id)

    def turns_after_gone(self, gone: Collection[str]) -> list[str]:
        """Who waits next in the conversations of deleted sessions."""
        return queueing.turns_after_gone(self.database, gone)

    def ready_turns(self, limit: int = 200) -> list[str]:
        """Sessions that wait for their turn although it has come."""
        return queueing.ready_turns(self.database, limit=limit)

    # -- what its steps and its users share
    def context(self, session_id: str) -> tuple[int, dict[str, Any]]:
        """The head's version, and the context as it was then; SessionNotFound."""
        return context.read_context(self.database, session_id, self._clock)

    def write_context(
        self, session_id: str, *, version: int, value: dict[str, Any], delta: str, actor: str | None = None
    ) -> int:
        """Write the context if the head is still at `version`, else StaleState; returns the new version."""
        return context.write_context(
            self.database, session_id, version=version, value=value, delta=delta, actor=actor, clock=self._clock
        )

    def context_changes(self, session_id: str) -> list[dict[str, Any]]:
        """What each change of the context was, when, and whose, oldest first; see `deltas`."""
        return context.change_rows(self.database, session_id)

    def say(self, session_id: str, said: NewMessage, action: Action | None = None) -> int:
        """Add a message to the conversation from outside; its number. SessionConflict if the session has ended."""
        return messages.say(self.database, session_id, said, action, clock=self._clock)

    def conversation(self, session_id: str) -> list[Row]:
        """The messages of the conversation up to this session's turn, in their order; SessionNotFound."""
        return messages.conversation(self.database, session_id)

    # -- due steps
    def take_due(self, *, worker: str | None, first: float, limit: int = 200) -> list[QueuedStep]:
        """Take what is due; publish it afterwards."""
        return wake.take_due(self.database, worker=worker, first=first, limit=limit, clock=self._clock)

    def wake_later(self, key: StepKey, delay: float) -> None:
        """Send a queued step's message again in `delay` seconds."""
        wake.wake_later(self.database, key, delay, clock=self._clock)

    def delay_unknown(self, key: StepKey, attempt: int, *, first: float) -> float | None:
        """Send the message that a worker without its task has dropped again soon; the delay, None if not queued."""
        return unknown.delay_unknown(self.database, key, attempt, first=first, clock=self._clock)

    def wake_known(self, tasks: Collection[str]) -> int:
        """Make due what waits for a worker that knows one of these tasks."""
        return unknown.wake_known(self.database, tasks, clock=self._clock)

    def still_unclaimed(self, keys: Collection[StepKey]) -> set[StepKey]:
        """Those of these dropped steps that nobody has claimed since."""
        return unknown.still_unclaimed(self.database, keys)

    def waiting_tasks(self, session_ids: Collection[str] | None = None) -> list[Row]:
        """Which tasks queued steps wait for, of these sessions or of all."""
        return unknown.waiting_tasks(self.database, session_ids, clock=self._clock)

    def queued_steps(self, session_id: str) -> list[QueuedStep]:
        """The steps of one session that are ready to run."""
        return wake.queued_steps(self.database, session_id, clock=self._clock)

    def unsettled(self, limit: int = 200) -> list[str]:
        """Sessions whose end was not written."""
        return wake.unsettled(self.database, limit=limit)

    def past_expiry(self, limit: int = 200) -> list[str]:
        """Sessions whose `expires_at` has passed."""
        return wake.past_expiry(self.database, limit=limit, clock=self._clock)

    # -- who is alive
    def add_worker(self, worker: WorkerRow) -> None:
        """Write the row of a worker that begins."""
        liveness.add_worker(self.database, worker, clock=self._clock)

    def beat(self, worker_id: str) -> bool:
        """A heartbeat; False if the worker's row is gone."""
        return liveness.beat(self.database, worker_id, clock=self._clock)

    def stop_worker(self, worker_id: str) -> bool:
        """A worker's goodbye, or its certain death; True the first time."""
        return liveness.stop_worker(self.database, worker_id, clock=self._clock)

    def running_workers(self) -> list[WorkerRow]:
        """Workers that have not said goodbye."""
        return liveness.running_workers(self.database, clock=self._clock)

    def begin_sweep(self, name: str, interval: float) -> bool:
        """Whether this caller does the sweep now."""
        return liveness.begin_sweep(self.database, name, interval, clock=self._clock)

    def orphans(self, *, silent_for: float | None, limit: int = 200) -> list[Orphan]:
        """Running steps whose worker is dead."""
        return orphans.orphans(self.database, silent_for=silent_for, limit=limit, clock=self._clock)

    def orphans_of(self, session_id: str) -> list[Orphan]:
        """Running steps of one session whose worker is certainly dead."""
        return orphans.orphans_of(self.database, session_id)

    def overdue_of(self, session_id: str) -> list[Orphan]:
        """Running steps of one session past their deadline."""
        return orphans.overdue_of(self.database, session_id, clock=self._clock)

    def running_on(self, worker_id: str) -> list[Orphan]:
        """Running steps of one worker."""
        return orphans.running_on(self.database, worker_id)

    def one_running(self, key: StepKey, attempt: int) -> Orphan | None:
        """A running step by key and attempt."""
        return orphans.one_running(self.database, key, attempt)

    def overdue(self, limit: int = 200) -> list[Orphan]:
        """Running steps past their deadline."""
        return orphans.overdue(self.database, limit=limit, clock=self._clock)

    def wake_queued_by(self, worker_ids: Sequence[str]) -> int:
        """Make due what dead workers had queued."""
        return waking.wake_queued_by(self.database, worker_ids, clock=self._clock)

    def wake_forsaken(self) -> int:
        """Make due what ended runs without a broker left queued."""
        return waking.wake_forsaken(self.database, clock=self._clock)

    def wake_oldest(self, count: int) -> int:
        """Make due the oldest queued steps, which a dead worker may have held."""
        return waking.wake_oldest(self.database, count, clock=self._clock)

    # -- how well that works
    def note_fenced(self, key: StepKey, attempt: int) -> bool:
        """Write down that the late end of an attempt was refused; whether its row was there."""
        return recoveries.note_fenced(self.database, key, attempt, clock=self._clock)

    def recoveries(self, *, since: float, alive: Collection[str], takers: bool) -> recoveries.Recoveries:
        """Crashes that were resumed in the last `since` seconds, refused late writers, sessions without an owner."""
        return recoveries.recoveries(self.database, since=since, alive=alive, takers=takers, clock=self._clock)

    # -- reading
    def session(self, session_id: str) -> Row:
        """One session, whole; SessionNotFound."""
        return views.session_row(self.database, session_id)

    def brief(self, session_id: str) -> Row | None:
        """One session without its payloads; None if it is not there."""
        return views.brief_row(self.database, session_id)

    def head(self, session_id: str) -> Row:
        """The moving head; SessionNotFound."""
        return views.head_row(self.database, session_id)

    def sessions(self, wanted: views.SessionFilter) -> list[Row]:
        """A page of sessions, newest first."""
        return views.session_rows(self.database, wanted)

    def all_sessions(self, wanted: views.SessionFilter, size: int = 500) -> Iterator[Row]:
        """Every session that a filter finds, read in pages of this size, newest first; its limit is left aside."""
        return listing.all_rows(self.database, wanted, size)

    def count(self, wanted: views.SessionFilter, most: int | None = None) -> int:
        """How many sessions a filter finds; with `most`, counting ends at one more."""
        return views.count_sessions(self.database, wanted, most)

    def with_forebears(self, session_ids: Iterable[str]) -> dict[str, str | None]:
        """Session -> digest of its definition, for these and all that they come from."""
        return forebears.with_forebears(self.database, session_ids)

    def payloads(self, session_ids: Iterable[str]) -> Iterator[str]:
        """Every value that sessions bear, as stored."""
        return payloads.payloads(self.database, session_ids)

    def inputs(self, session_ids: Iterable[str]) -> Iterator[str]:
        """What sessions were started with, as stored."""
        return payloads.inputs(self.database, session_ids)

    def topics(self, session_ids: Collection[str]) -> dict[str, str]:
        """Session -> its input `topic`, for those that have one."""
        return topics.topics(self.database, session_ids)

    def family(self, session_id: str) -> list[Row]:
        """Every session that hangs together with this one, oldest first, without payloads; SessionNotFound."""
        return family.family_rows(self.database, session_id)

    def definition(self, digest: str) -> Row:
        """A stored definition."""
        return views.definition_of(self.database, digest)

    def definition_beginning(self, prefix: str) -> list[str]:
        """The digests of the stored definitions that begin so; a few of them."""
        return versions.digests(self.database, prefix)

    def versions(self, cascade_id: str) -> list[Row]:
        """The distinct definitions of a cascade, the newest first."""
        return versions.versions(self.database, cascade_id)

    def cascade_ids(self) -> list[str]:
        """The cascades that the store has definitions of."""
        return versions.cascade_ids(self.database)

    def lineage(self, session_id: str) -> list[Row]:
        """A session, what it was forked from, and so on up to the first."""
        return lineage.lineage(self.database, session_id)

    def steps(self, session_id: str) -> list[Row]:
        """The step rows of a session."""
        return views.step_rows(self.database, session_id)

    def attempts(self, session_id: str) -> list[Row]:
        """The attempts of a session that did not succeed."""
        return views.attempt_rows(self.database, session_id)

    def actions(self, session_id: str) -> list[Row]:
        """What operators did to a session."""
        return views.action_rows(self.database, session_id)

    def past(self, session_id: str) -> past.Past:
        """Every row of a session, to tell what it was at any version; SessionNotFound."""
        return past.past_of(self.database, session_id)

    def outputs(self, session_id: str, names: Collection[str]) -> dict[str, tuple[str, str | None]]:
        """Status and output text of these steps."""
        return views.outputs_of(self.database, session_id, names)

    def step_changes(self, session_id: str, since: int) -> list[Row]:
        """The steps that changed after a version and those that are open, without payloads."""
        return watching.step_changes(self.database, session_id, since)

    def held_by(self, worker_ids: Collection[str]) -> set[str]:
        """The sessions of which these workers run or have queued a step."""
        return watching.held_by(self.database, worker_ids)

    def finished_work(self, session_ids: Collection[str]) -> dict[str, tuple[int, float]]:
        """How many steps of these sessions have succeeded, and how many seconds they took."""
        return watching.finished_work(self.database, session_ids)

    def last_sign_of_life(self) -> float | None:
        """Seconds since any worker was last heard of."""
        return watching.last_sign_of_life(self.database, clock=self._clock)

    def headless(self) -> list[tuple[str, str]]:
        """(session, definition) of sessions whose head is lost."""
        return mend.headless(self.database)

    def unfinished(self) -> list[str]:
        """The sessions that are active."""
        return mend.unfinished(self.database)

    def add_head(self, session_id: str, *, total: int, closed: int, done: int) -> None:
        """Give a session a head again, suspended."""
        mend.add_head(self.database, session_id, total=total, closed=closed, done=done, clock=self._clock)

    def open_counts(self) -> dict[str, int]:
        """Status -> number of sessions."""
        return views.open_counts(self.database)

    def unreadable(self, limit: int = 20) -> list[Unreadable]:
        """Stored values that cannot be read any more."""
        return unreadable(self.database, limit)

    def probe(self) -> None:
        """Pass if a start could be written."""
        views.probe(self.database)

    def now(self) -> datetime:
        """The database's time."""
        return views.database_now(self.database, self._clock)

    # -- retention
    def pruning(self, rules: Rules, *, batch: int) -> Pruning:
        """One prune, to be walked through."""
        return Pruning(self.database, rules, batch=batch, clock=lambda: self._clock)

    def mend_times(self, limit: int = 1000) -> list[str]:
        """Replace broken times by the present; whose they were."""
        return leftovers.mend_times(self.database, limit=limit, clock=self._clock)

    def forget_definitions(self, limit: int = 1000) -> int:
        """Delete definitions that nothing refers to."""
        return leftovers.forget_definitions(self.database, limit=limit, clock=self._clock)

    def forget_workers(self, older_than: float, limit: int = 1000) -> int:
        """Delete rows of workers that ended long ago."""
        return leftovers.forget_workers(self.database, older_than=older_than, limit=limit, clock=self._clock)

    def sizes(self, session_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What a dry run tells of each session."""
        return leftovers.sizes(self.database, session_ids, clock=self._clock)

    def first_time(self, name: str) -> bool:
        """Whether nobody has asked this of this store before."""
        return leftovers.first_time(self.database, name, clock=self._clock)

    def vacuum(self) -> tuple[int, int]:
        """Shrink an SQLite file; its bytes before and after."""
        return leftovers.vacuum(self.database)

    def pin(self, session_id: str, pinned: bool, action: Action | None = None) -> bool:
        """Pin a session, or no longer; False if it was so already."""
        return head.pin_session(self.database, session_id, pinned, action, clock=self._clock)

    def tree(self, session_id: str) -> list[Member]:
        """The whole tree of a session; SessionNotFound."""
        return deleting.tree_of(self.database, session_id)

    def delete_tree(self, session_id: str, check: Callable[[list[Member]], None]) -> list[str]:
        """Delete the tree of a session unless `check` raises; the ids that are gone."""
        return deleting.delete_tree(self.database, session_id, check)

    def delete_session(self, session_id: str) -> None:
        """Delete one session whatever its status and its tree."""
        deleting.delete_session(self.database, session_id)
