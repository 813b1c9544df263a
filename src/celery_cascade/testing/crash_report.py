"""What a crash test has found: a row a step, and a verdict."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from celery_cascade.testing.trials import Trial

HEADINGS = ("STEP", "CRASHES", "RAN AGAIN", "EFFECTS", "KEY", "OUTPUT", "AFTER A CRASH", "BACK IN (WORST)")
#: How the row is called whose crashes belong to no step.
NO_STEP = "(session)"
_MOST_HARM = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A step, over all crashes that were tried in it.

    Attributes:
        step: its id; `(session)` = crashes at the session's start and end.
        crashes: how many were tried.
        ran_again: after how many of them its body began a second time.
        effects: `same`, `differ`; `not seen` = nothing tells what steps do outside.
        key: `asked` = the body asked for `current_session().idempotency_key`, `not asked`.
        output: `same`, `differs`, or `-` if no run of it came to an end.
        outcome: what became of the sessions: `went on`; `asks 4` or `fails 4`, as `on_crash` says; `harm 2`.
        back_median, back_worst: seconds until the session moved again.
    """

    step: str
    crashes: int
    ran_again: int
    effects: str
    key: str
    output: str
    outcome: str
    back_median: float | None
    back_worst: float | None

    def cells(self) -> list[str]:
        """As text, in the order of the headings."""
        back = "-" if self.back_median is None else f"{self.back_median:.2f} s ({self.back_worst:.2f} s)"
        return [
            self.step,
            str(self.crashes),
            str(self.ran_again),
            self.effects,
            self.key,
            self.output,
            self.outcome,
            back,
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """What a crash test has found; `str()` of it is the table with the verdict.

    Attributes:
        cascade: its id.
        rows: one a step that ran, in the order of their crashes.
        trials: every crash that was tried.
        harm: what was wrong before any crash: then none was tried.
        notes: what this test did not look at.
        seconds: how long it took.
        folder: of the sandbox, if it was kept.
    """

    cascade: str
    rows: tuple[Row, ...] = ()
    trials: tuple[Trial, ...] = ()
    harm: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    folder: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and nothing differed after any crash."""
        return not self.harm and bool(self.trials) and not self.harmed

    @property
    def harmed(self) -> list[Trial]:
        """The crashes that did harm."""
        return [trial for trial in self.trials if trial.harm]

    def table(self) -> list[list[str]]:
        """The cells of all rows."""
        return [row.cells() for row in self.rows]

    def verdict(self) -> list[str]:
        """What it comes to, in lines: the first one says whether all is well, the others what is not."""
        if self.harm:
            return [f"Not well, without any crash: {self.harm[0]}", *(f"  {words}" for words in self.harm[1:])]
        if not self.trials:
            return ["Not well: none of these crash points is ever reached, so nothing was tried."]
        tried = f"{len(self.trials)} crashes in {self.seconds:.1f} s"
        if self.ok:
            stopped = sum(trial.outcome in ("asks", "fails") for trial in self.trials)
            ended = "every session" if not stopped else f"{stopped} stopped as on_crash says, every other session"
            effects = " and the same effects" if any(trial.same_effects for trial in self.trials) else ""
            return [f"All well: {tried}; {ended} ended with the same output{effects}."]
        lines = [f"  {_place(trial)}: {'; '.join(trial.harm)}" for trial in self.harmed[:_MOST_HARM]]
        more = len(self.harmed) - len(lines)
        return [f"Not well: {len(self.harmed)} of {tried} did harm.", *lines] + ([f"  and {more} more"] if more else [])

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"ok": self.ok, "verdict": self.verdict(), **asdict(self)}

    def __str__(self) -> str:
        lines = _aligned([list(HEADINGS), *self.table()]) if self.rows else []
        return "\n".join([*lines, *self.verdict(), *(f"Note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"<CrashReport of {self.cascade}: {' '.join(' '.join(self.verdict()[:3]).split())}>"


def _place(trial: Trial) -> str:
    return f"{trial.step or NO_STEP}, {trial.where}"


def rows_of(trials: Iterable[Trial]) -> tuple[Row, ...]:
    """The trials by their steps; what belongs to no step comes last."""
    by_step: dict[str | None, list[Trial]] = {}
    for trial in trials:
        by_step.setdefault(trial.step, []).append(trial)
    by_step[None] = by_step.pop(None, [])
    return tuple(_row(step, found) for step, found in by_step.items() if found)


def _row(step: str | None, trials: Sequence[Trial]) -> Row:
    back = [trial.back for trial in trials if trial.back is not None]
    key = "-" if step is None else "asked" if any(trial.asked_key for trial in trials) else "not asked"
    return Row(
        step=step or NO_STEP,
        crashes=len(trials),
        ran_again=sum(trial.ran_again for trial in trials),
        effects=_word([trial.same_effects for trial in trials], "same", "differ", "not seen"),
        key=key,
        output=_word([trial.same_output for trial in trials], "same", "differs", "-"),
        outcome=_outcome([trial.outcome for trial in trials]),
        back_median=statistics.median(back) if back else None,
        back_worst=max(back, default=None),
    )


def _word(found: Sequence[bool | None], same: str, other: str, unknown: str) -> str:
    seen = [one for one in found if one is not None]
    return unknown if not seen else same if all(seen) else other


def _outcome(outcomes: Sequence[str]) -> str:
    others = {word: outcomes.count(word) for word in ("harm", "asks", "fails") if word in outcomes}
    return ", ".join(f"{word} {count}" for word, count in others.items()) or "went on"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
