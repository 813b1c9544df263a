"""Which crashes are worth trying: every place that an undisturbed run has passed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from celery_cascade.crash_points import CrashPoint
from celery_cascade.errors import UsageError
from celery_cascade.testing import journal
from celery_cascade.testing.bodies import SHORT, Lines, Timer, Watch
from celery_cascade.testing.journal import Entry, Key
from celery_cascade.words import suggestion

#: Where a crash may do harm to what tasks do; the others are ours to prove.
DEFAULT_POINTS = (
    CrashPoint.CLAIMED,
    CrashPoint.BODY,
    CrashPoint.BODY_ENDED,
    CrashPoint.CHECKPOINT_OPEN,
    CrashPoint.CHECKPOINTED,
    CrashPoint.END_OPEN,
    CrashPoint.ENDED,
)
GROUPS = {"default": DEFAULT_POINTS, "all": tuple(CrashPoint)}
#: Crashes inside each step's body.
IN_BODY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """Where a process is to end.

    Attributes:
        point: when this is reached,
        step, item: by this step (None and -1 = by none in particular),
        visit: for the so-many-th time.
        watch: what ends the process somewhere in the body that begins there; None = it ends right there.
        words: where that is, for people.
    """

    point: CrashPoint
    step: str | None
    item: int
    visit: int
    words: str
    watch: Watch | None = None

    def is_at(self, point: CrashPoint, step: str | None, item: int, visit: int) -> bool:
        """Whether this visit is the one."""
        return (point, step, item, visit) == (self.point, self.step, self.item, self.visit)

    @property
    def name(self) -> str:
        """The point's name; `in_body` between two points."""
        return self.point.value if self.watch is None else CrashPoint.IN_BODY.value


def points_of(words: Iterable[str]) -> tuple[CrashPoint, ...]:
    """Crash points by their names or groups, with commas or without. Raises UsageError with the nearest right word."""
    found: list[CrashPoint] = []
    for word in (part.strip().lower() for given in words for part in str(given).split(",")):
        if word in GROUPS:
            found += GROUPS[word]
        elif word in CrashPoint.__members__.values():
            found.append(CrashPoint(word))
        else:
            near = suggestion(word, [*GROUPS, *(point.value for point in CrashPoint)])
            raise UsageError(
                f"there is no crash point {word!r}{near}", hint="List them with: cascade crashtest --list-points"
            )
    return tuple(dict.fromkeys(found)) or DEFAULT_POINTS


def crashes_at(entries: Iterable[Entry], points: Sequence[CrashPoint]) -> Iterator[Crash]:
    """One for each time that a run has passed one of the points."""
    seen: Counter[tuple[str, str | None, int]] = Counter()
    for entry in entries:
        if entry.what not in points:
            continue
        this = (entry.what, entry.step, entry.item)
        seen[this] += 1
        visit = seen[this]
        words = entry.what if visit == 1 else f"{entry.what}, time {visit}"
        yield Crash(point=CrashPoint(entry.what), step=entry.step, item=entry.item, visit=visit, words=words)


def crashes_inside(timed: Sequence[Entry], counted: Sequence[Entry], tries: int) -> Iterator[Crash]:
    """Some in the body of each step, spread evenly: over its time, or over its lines if it is over at once.

    Args:
        timed, counted: of two runs; in the second one the lines of bodies were counted, which takes time.
        tries: how many a body; fewer where it has fewer lines.
    """
    lines_of = {(entry.step, entry.item): int(entry.detail) for entry in journal.of(counted, journal.LINES)}
    for key, seconds in _body_times(timed).items():
        lines = lines_of.get(key, 0)
        for words, watch in _timed(seconds, tries) if seconds >= SHORT else _between(lines, tries):
            yield Crash(point=CrashPoint.BODY, step=key[0], item=key[1], visit=1, words=words, watch=watch)


def _timed(seconds: float, tries: int) -> Iterator[tuple[str, Watch]]:
    for number in range(1, tries + 1):
        after = seconds * number / (tries + 1)
        yield f"in its body, after {after:.2f} s of {seconds:.2f} s", Timer(after)


def _between(lines: int, tries: int) -> Iterator[tuple[str, Watch]]:
    """Before line 2 at the earliest: before its first line, nothing has happened yet."""
    tries = min(tries, lines - 1)
    for number in range(tries):
        line = 2 + (2 * number + 1) * (lines - 1) // (2 * tries)
        yield f"in its body, before line {line} of the {lines} that it runs", Lines(crash_before=line)


def _body_times(entries: Sequence[Entry]) -> dict[Key, float]:
    """How long the first run of each body took, in seconds."""
    began: dict[Key, float] = {}
    took: dict[Key, float] = {}
    for entry in entries:
        if entry.step is None:
            continue
        key = (entry.step, entry.item)
        if entry.what == CrashPoint.BODY:
            began.setdefault(key, entry.at)
        elif entry.what == CrashPoint.BODY_ENDED:
            took.setdefault(key, entry.at - began.get(key, entry.at))
    return took
