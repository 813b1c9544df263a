"""What a history is: what happened, in virtual time, and what was wrong with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


class Wrong(AssertionError):
    """A promise is broken."""


@dataclass
class History:
    """One run of the simulation.

    Attributes:
        lines: (virtual seconds, what), if it was told to remember them.
        problem: what went wrong; None = nothing.
        kind: `lost`, `stuck` or `repeated`, for the record; `wrong` for anything else.
        steps: how many steps its cascades have.
        made: the choices that were not the plainest.
        seen: what came about in it (takeovers, late writers, ends), so that a test can see that the faults do strike.
    """

    seed: int
    telling: bool = False
    lines: list[tuple[float, str]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    events: int = 0
    steps: int = 0
    now: float = 0.0
    problem: str | None = None
    kind: str = ""
    made: dict[int, int] = field(default_factory=dict)

    @property
    def crashes(self) -> int:
        return self.faults["crash"]

    def tell(self, what: str) -> None:
        if self.telling:
            self.lines.append((self.now, what))

    def fault(self, name: str, what: str = "") -> None:
        self.faults[name] += 1
        self.tell(f"  ** {name}{': ' if what else ''}{what}")

    def went_wrong(self, error: BaseException) -> None:
        said = str(error) or type(error).__name__
        self.problem = said if isinstance(error, AssertionError) else f"{type(error).__name__}: {said}"
        first = said.partition(":")[0]
        self.kind = first if first in ("lost", "stuck", "repeated") else "wrong"
        self.tell(f"WRONG {self.problem}")

    def written(self) -> str:
        """For people."""
        return "\n".join(f"{moment:9.3f} s  {what}" for moment, what in self.lines)
