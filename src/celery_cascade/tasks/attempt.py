"""What the guard and whoever answers for a step say to each other: one attempt, from claim to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

SESSION_HEADER = "cascade_session"  #: travels with everything that a session causes
STEP_HEADER = "cascade_step"  #: only on the message of a step; never propagated

#: The item number of a step that is not one of many (a mapped step counts its items from 0).
NO_ITEM = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRef:
    """Which attempt a message is about: the `cascade_step` header.

    Args:
        place: where its store is, for whoever gets the message but has another store; None = not told.
    """

    store: str
    session: str
    step: str
    item: int
    attempt: int
    task_id: str
    place: str | None = field(default=None, compare=False)

    def as_header(self) -> dict[str, Any]:
        """The header as it travels."""
        found = {name: getattr(self, name) for name in _IN_HEADER}
        return found if self.place is None else found | {"place": self.place}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> StepRef | None:
        """Read a header; None if it is not one of ours in full."""
        try:
            return cls(**{name: header[name] for name in _IN_HEADER}, place=header.get("place"))
        except (KeyError, TypeError):
            return None


_IN_HEADER = ("store", "session", "step", "item", "attempt", "task_id")


@dataclass(slots=True, kw_only=True)
class Attempt:
    """A claimed step: what to call, and the token that every later write must bear."""

    ref: StepRef
    token: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    retries: int = 0  #: how often the task itself asked for a retry: `self.request.retries`
    begun: float = 0.0  #: this process's clock before the claim, in seconds
    hard_limit: float | None = None  #: seconds after which Celery kills the pool child
    detail: Any = field(default=None, repr=False)  #: the answering side's own notes
    shared: Any = field(default=None, repr=False)  #: what the body does to the session's context and conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAsked:
    """The body called `self.retry(...)` (or `autoretry_for` did): nothing was published.

    Args:
        args, kwargs: the arguments of the next attempt; None = as they were.
        delay: seconds until it is due.
        error: what led to it, if anything.
        options: changed execution options (queue, priority, …), as given.
    """

    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    delay: float = 0.0
    error: BaseException | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class StepRunner(Protocol):
    """Answers for steps. Every method but `claim` may raise `ClaimLost`: the step belongs to another."""

    def claim(self, ref: StepRef, request: Any) -> Attempt | None:
        """Take the step; None when there is nothing to do (done already, running, cancelled, another store)."""

    def succeed(self, attempt: Attempt, value: Any) -> None:
        """Checkpoint the output and what follows from it, then publish.

        Raises NotSerializable or PayloadTooLarge after having recorded the step as failed.
        """

    def fail(self, attempt: Attempt, error: BaseException) -> float | None:
        """Record a failure. Returns the delay in seconds when the step is tried again, else None."""

    def retry(self, attempt: Attempt, asked: RetryAsked) -> float:
        """Record a retry that the task asked for; returns the delay in seconds."""

    def skip(self, attempt: Attempt) -> None:
        """The body raised Ignore: the step ends as skipped."""

    def requeue(self, attempt: Attempt, delay: float) -> None:
        """The body raised Reject(requeue=True): the step is queued again, no failure is counted."""

    def abandon(self, attempt: Attempt, error: BaseException) -> None:
        """The body ended by SystemExit or the like: a crash; the step is queued again."""
