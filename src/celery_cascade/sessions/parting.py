"""Where a session and its fork, or two forks of one session, part (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Lineage = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """The point up to which two sessions are one.

    Args:
        session_id: the session that both come from; it may be one of the two.
        version: of that session, up to which they are the same; 0 = from the start on they are two.
        step: at which the first of them was forked; None = at no step that was named.
        how: `fork` or `rerun`.
    """

    session_id: str
    version: int
    step: str | None
    how: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def parting(a: Lineage, b: Lineage) -> Parting | None:
    """Where they part; None if they have nothing in common.

    Args:
        a, b: each session, its origin, the origin of that, and so on.
    """
    ways_a, ways_b = _ways(a), _ways(b)
    for session_id, way_a in ways_a.items():
        if session_id in ways_b:
            return _nearest(session_id, way_a, ways_b[session_id])
    return None


@dataclass(frozen=True, slots=True)
class _Way:
    """How a session comes from an ancestor."""

    version: int
    step: str | None
    how: str


def _ways(lineage: Lineage) -> dict[str, _Way | None]:
    """Ancestor -> the way from it; None for the session itself.

    A fork of a fork is the same as the first session as far as the fork in between was, unless it kept nothing of that.
    """
    found: dict[str, _Way | None] = {}
    way: _Way | None = None
    for row in lineage:
        found.setdefault(row["session_id"], way)
        if row["forked_from"] is None:
            break
        version = row["forked_version"] or 0
        if way is not None and way.version == 0:
            version = 0
        way = _Way(version, row["forked_step"], "rerun" if row["trigger"] == "rerun" else "fork")
        found.setdefault(row["forked_from"], way)
    return found


def _nearest(session_id: str, a: _Way | None, b: _Way | None) -> Parting | None:
    ways = [way for way in (a, b) if way is not None]
    if not ways:
        return None  # a session beside itself
    first = min(ways, key=lambda way: way.version)
    return Parting(session_id=session_id, version=first.version, step=first.step, how=first.how)
