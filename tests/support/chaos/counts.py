"""What one run of the chaos did and found, in numbers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass
class Counts:
    """Printed at the end, and recorded."""

    stack: str
    seed: int
    sessions: int = 0
    steps: int = 0
    bodies: int = 0
    #: kind of fault -> how often
    faults: Counter[str] = field(default_factory=Counter)
    crashes_recorded: int = 0
    workers_that_ended_by_themselves: int = 0
    late_zombies: int = 0
    lost: int = 0
    stuck: int = 0
    wrong: int = 0
    repeated_after_checkpoint: int = 0
    other_violations: int = 0
    seconds: float = 0.0

    KILLS: ClassVar[tuple[str, ...]] = ("worker killed", "busy pool child killed", "idle pool child killed")

    @property
    def kills(self) -> int:
        """SIGKILLs of workers and of pool children."""
        return sum(self.faults[kind] for kind in self.KILLS)

    def as_dict(self) -> dict[str, Any]:
        found = dataclasses.asdict(self)
        return {**found, "faults": dict(sorted(self.faults.items())), "kills": self.kills}

    def lines(self) -> list[str]:
        """For people."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        size = f"{self.sessions} sessions, {self.steps} steps, {self.bodies} bodies in {self.seconds:.0f} s"
        own = self.workers_that_ended_by_themselves
        bad = f"lost {self.lost}, stuck {self.stuck}, wrong {self.wrong}"
        repeated = self.repeated_after_checkpoint
        return [
            f"{self.stack}, seed {self.seed}: {size}",
            f"{self.kills} kills; {kinds}",
            f"{self.crashes_recorded} crashes on record, {self.late_zombies} late zombies, {own} workers ended unasked",
            f"{bad}, repeated after checkpoint {repeated}, other violations {self.other_violations}",
        ]
