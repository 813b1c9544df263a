"""What goes into the store and comes out of it: plain values, JSON already encoded as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

NO_ITEM = -1  #: `item` of a step that is not one of many

EndStatus = Literal["succeeded", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStep:
    """A step row to insert.

    Args:
        status: `queued`, `skipped`, or `pending` for a join.
        needs_left: open needs of a join.
        task: the task's name, for people and for "which worker knows it".
        call: the rendered call as JSON; None = rendered at the claim.
        reason: why it was skipped.
    """

    step: str
    status: str
    task: str
    item: int = NO_ITEM
    needs_left: int = 0
    call: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """Everything that `start` writes about a session besides its steps.

    Args:
        context: the JSON text of the context that it begins with; it becomes the change of version 1. None = {}.
        expires_in, expires_at: seconds from now, or the moment itself.
        queue: wait, if the thread's session has not ended.
    """

    session_id: str
    cascade_id: str
    digest: str
    format: str
    body: bytes
    input_data: str
    nonce: str
    total_steps: int
    closed_steps: int = 0  #: of these, skipped from the start
    name: str | None = None
    config_path: str | None = None
    mode: str = "cascade"
    current_phase: str | None = "init"
    tags: str | None = None
    trigger: str = "python"
    thread_id: str | None = None
    resource_id: str | None = None
    idempotency_key: str | None = None
    execution_key: str | None = None
    parent_session_id: str | None = None
    parent_step: str | None = None
    root_session_id: str | None = None
    depth: int = 0
    expires_in: float | None = None
    context: str | None = None
    expires_at: datetime | None = None
    queue: bool = False


@dataclass(frozen=True, slots=True)
class StepKey:
    """Which step row."""

    session_id: str
    step: str
    item: int = NO_ITEM


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedStep:
    """A step whose message is to be sent."""

    key: StepKey
    task: str
    attempt: int = 1
    epoch: int = 0
    retries: int = 0
    dropped: bool = False  #: its last message went to a worker that does not know its task


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedStep:
    """What a successful claim returns: the row as it now runs."""

    key: StepKey
    token: str
    attempt: int
    call: str | None
    failures: int
    retries: int
    crashes: int
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message of a conversation to be added: JSON text, but for the role. `extra` None = nothing came with it."""

    role: str
    content: str
    extra: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A step that ended well and what follows: one transaction.

    Args:
        closed: how many steps became final, this one included.
        queued: rows to insert as queued (parked instead if the session halts).
        skipped: rows to insert as skipped.
        arrivals: join -> how many of its needs ended.
        worker: who queues what follows.
        resend_after: seconds until an unclaimed message is sent again; None = the caller drives it itself.
        context_delta: what the step has changed in the session's context; None = nothing.
        messages: what it has said.
    """

    key: StepKey
    token: str
    status: EndStatus
    output: str | None
    phase: str
    closed: int
    reason: str | None = None
    queued: Sequence[NewStep] = ()
    skipped: Sequence[NewStep] = ()
    arrivals: Mapping[str, int] = field(default_factory=dict)
    worker: str | None = None
    resend_after: float | None = 60.0
    context_delta: str | None = None
    messages: Sequence[NewMessage] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The head after a change.

    Attributes:
        ready: joins that this change made ready.
        halt: what the session is on its way to, or None.
        open_steps: steps that are not final yet.
    """

    version: int
    open_steps: int
    halt: str | None
    ready: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """An attempt that did not succeed.

    Args:
        kind: `failure`, `retry`, `timeout`, `requeue` or `crash`.
        delay: seconds until the next attempt; None = the step failed for good.
        error, traceback: of this attempt.
        call: changed arguments of the next attempt; None = as they were.
        failures, retries: how much to add to the row's counts.
        silent_for: the worker must have been silent for so many seconds, for who judges by that; None = whatever it is.
        from_outside: written by another than who ran the attempt. Several may try, with the same token; one is told
            that it has.
    """

    key: StepKey
    token: str
    kind: str
    delay: float | None
    error: str | None = None
    traceback: str | None = None
    call: str | None = None
    failures: int = 0
    retries: int = 0
    worker: str | None = None
    resend_after: float | None = 60.0
    task: str | None = None
    silent_for: float | None = None
    from_outside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an operator says of a parked step that is in doubt or poisoned.

    Args:
        attempt: of its row, as the operator has seen it.
        nonce: random, so that a later try knows that an earlier one went through.
        done: how the step ends and what follows, with the nonce as its token; None = it runs again.
    """

    key: StepKey
    attempt: int
    nonce: str
    done: Checkpoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an answer came to.

    Attributes:
        version: of the head.
        queued: steps whose messages are to be sent.
        left: steps that still wait for an answer; while there are any, the session does not go on.
    """

    version: int
    queued: Sequence[QueuedStep] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A running step and who runs it."""

    key: StepKey
    token: str
    attempt: int
    crashes: int
    task: str
    runner: str | None
    worker: str | None
    halt: str | None
    failures: int = 0
    nodename: str | None = None  #: of its worker, if its row is still there
    on_crash: str | None = None  #: `fail` or `ask`; None = queue it again


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """One worker incarnation."""

    id: str
    nodename: str
    host: str
    pid: int
    boot_id: str | None = None
    pid_namespace: str | None = None
    process_started: str | None = None
    pool: str | None = None
    capacity: int = 0
    tasks: str | None = None  #: names of the tasks that it knows, as a JSON list; None = not told
    queues: str | None = None  #: names of the queues that it consumes, likewise
    silent_for: float = 0.0  #: seconds since its last heartbeat, by the database's clock
    stopped_at: datetime | None = None


Row = Mapping[Any, Any]
