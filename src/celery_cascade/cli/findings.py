"""One finding of `doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding.

    Args:
        code: what the program exits with if this is the first error.
        figures: what was measured, for `--json`.
    """

    name: str
    message: str
    state: State = "ok"
    hint: str = ""
    code: int = 0
    figures: Mapping[str, Any] | None = None

    def as_mapping(self) -> dict[str, Any]:
        """For `--json`; figures only where there are any."""
        found = asdict(self)
        if self.figures is None:
            del found["figures"]
        return found
