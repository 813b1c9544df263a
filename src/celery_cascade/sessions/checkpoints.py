"""The checkpoints of a session: one after each step that ended well, its number the session's version then (D13)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from celery_cascade.persistence.rows import NO_ITEM
from celery_cascade.states import StepStatus

_DONE = frozenset({StepStatus.SUCCEEDED, StepStatus.SKIPPED})


@dataclass(frozen=True, slots=True, order=True)
class Checkpoint:
    """One of them; they are in the order of their numbers."""

    number: int
    step: str
    item: int = NO_ITEM

    def name(self, session_id: str) -> str:
        """How it is written wherever it is shown."""
        return checkpoint_name(session_id, self.number)

    @property
    def unit(self) -> str:
        """The step, with the item of a mapped one."""
        return self.step if self.item == NO_ITEM else f"{self.step}[{self.item}]"


def checkpoint_name(session_id: str, number: int) -> str:
    """`<session>_ckpt_<n>`."""
    return f"{session_id}_ckpt_{number}"


def checkpoints_in(steps: Iterable[Mapping[str, Any]]) -> list[Checkpoint]:
    """The checkpoints among a session's step rows, oldest first.

    What was skipped along with the checkpoint of another step has none of its own, nor has what a fork has kept.
    """
    done = (row for row in steps if row["status"] in _DONE and row["started_at"] and row["version"] > 1)
    return sorted(Checkpoint(row["version"], row["step"], row["item"]) for row in done)
