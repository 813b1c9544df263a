"""A cascade as plain data: what a definition says, after it was read and checked.

Nothing here knows YAML, SQL or Celery. `reader` makes these from bytes; `plan` orders them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SourceFormat = Literal["yaml", "json", "inline", "python"]
Backoff = Literal["none", "linear", "exponential"]


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
        phase: the label shown as `current_phase`; None = the id.
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
    phase: str | None = None


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
    """

    id: str
    steps: tuple[Step, ...]
    description: str = ""
    inputs: Mapping[str, Mapping[str, Any]] | None = None
    output: Any = None
    has_output: bool = False
