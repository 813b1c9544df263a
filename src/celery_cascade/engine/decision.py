"""What may happen to a session, and what is to be done about it: plain values, carried out elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Started:
    """The session begins."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A step ended well.

    Args:
        step: its id.
        output: what it gave, already decoded from its stored form; None if it was skipped.
        skipped: it did not run (`when` was false, or the body raised Ignore).
    """

    step: str
    output: Any = None
    skipped: bool = False


Event = Started | Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a session when something happens.

    Args:
        session_id: for `session.id` in templates.
        inputs: the session's inputs, defaults filled in.
        outputs: step id -> output of every step that ended; None for a skipped one. May load lazily:
            only steps that a template names are looked up.
    """

    session_id: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """How a step's task is called: rendered once, stored in its row."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """Make this step ready with this call."""

    step: str
    call: Call


@dataclass(frozen=True, slots=True)
class Skip:
    """This step does not run; `reason` is shown: `when`, `needs`, `ignored`."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """This step cannot be called: its template does not render."""

    step: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows from an event, to be committed together with it.

    Attributes:
        queue: steps whose only need (or none) has ended.
        skip: steps that will not run, found on the way.
        fail: steps that cannot be called; they are queued without a call and fail at their own claim.
        arrive: join id -> how many of its needs ended in this event.
    """

    queue: tuple[Queue, ...] = ()
    skip: tuple[Skip, ...] = ()
    fail: tuple[Fail, ...] = ()
    arrive: Mapping[str, int] = field(default_factory=dict)

    @property
    def closed(self) -> int:
        """How many steps became final besides the one of the event."""
        return len(self.skip)
