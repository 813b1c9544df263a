"""A cascade as plain data: what a definition says, after it was read and checked.

Nothing here knows YAML, SQL or Celery. `reader` makes these from bytes; `plan` orders them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SourceFormat = Literal["yaml", "json", "inline", "python", "canvas"]
Backoff = Literal["none", "linear", "exponential"]
OnCrash = Literal["retry", "fail", "ask"]

#: Where a value comes from: the output of a step, or a list of such.
Shape = str | tuple["Shape", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The bytes of a definition as they were given, read once.

    Args:
        body: the exact bytes; these are stored and these are parsed.
        format: where they came from.
        path: the absolute path for a file, else None.
    """

    body: bytes
    format: SourceFormat
    path: str | None = None

    @property
    def digest(self) -> str:
        """sha256 of the bytes, 64 hex characters."""
        import hashlib

        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed attempt is tried again.

    Args:
        max_attempts: failures allowed in all, the last one included; 1 = never try again.
        backoff: `none` = always `delay`; `linear` = delay * n; `exponential` = delay * 2**(n-1).
        delay: seconds before the second attempt.
        max_delay: seconds; no wait is longer.
        errors: class names (short or qualified, bases count); empty = every error.
    """

    max_attempts: int = 1
    backoff: Backoff = "exponential"
    delay: float = 1.0
    max_delay: float = 3600.0
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureCall:
    """How a step of a Celery canvas is called: its arguments are the session's `inputs[step id]`, no templates.

    Args:
        fed: what comes before them, as Celery hands on results; None = nothing (a first step, an immutable signature).
    """

    fed: Shape | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One unit of work: a registered Celery task and how to call it.

    Args:
        id: unique in its cascade.
        task: the registered name of a Celery task.
        arguments: a mapping (keyword arguments) or list (positional), templates not yet rendered.
        needs: ids of the steps that must have ended first.
        when: a template; the step is skipped if it renders to something false. None = always.
        retry: what happens after a failure.
        timeout: seconds an attempt may take; None = as long as it likes.
        queue: the Celery queue; None = as the task is routed.
        priority: the Celery priority; None = as the task says.
        on_crash: what happens when a worker dies while it runs the step, so that its work may be done or not: `retry` =
            it runs again, `fail` = it has failed, `ask` = an operator says what became of it.
        phase: the label shown as `current_phase`; None = the id.
        call: set for a step of a Celery canvas, which has neither `arguments` nor `when`.
        options: further options of its message (`routing_key`, `soft_time_limit`, ...); only a canvas has them.
        said: which of retry, timeout, queue, priority and on_crash the definition itself gives; for the others the
            task's own `@cascades.step(...)` counts.
    """

    id: str
    task: str
    arguments: Mapping[str, Any] | tuple[Any, ...] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    when: str | bool | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float | None = None
    queue: str | None = None
    priority: int | None = None
    on_crash: OnCrash = "retry"
    phase: str | None = None
    call: SignatureCall | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    said: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """A whole definition.

    Args:
        id: the cascade's name.
        steps: in the order of the file.
        description: for people.
        inputs: JSON Schema per input name; a schema with a `default` makes its input optional.
        output: a template for the session's output; None = the outputs of the last steps
            (one last step: its output; several: a mapping id -> output).
        has_output: whether `output:` was given at all (it may be null).
        returns: the session's output as a canvas has it; None = as `output` says.
    """

    id: str
    steps: tuple[Step, ...]
    description: str = ""
    inputs: Mapping[str, Mapping[str, Any]] | None = None
    output: Any = None
    has_output: bool = False
    returns: Shape | None = None


def steps_in(shape: Shape | None) -> tuple[str, ...]:
    """The steps that a shape names, in order."""
    if shape is None:
        return ()
    if isinstance(shape, str):
        return (shape,)
    return tuple(step for part in shape for step in steps_in(part))
