"""Whether a run ended as it has to: by the rows of the store and the log of the bodies, and by nothing else.

Bodies and rows are compared by one machine's clock. A moment of a row is when its statement began, so it is never
later than its commit; SQLite cuts it to milliseconds.
"""

from __future__ import annotations

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from celery_cascade.definition.plan import make_plan
from celery_cascade.definition.reader import read_cascade
from celery_cascade.definition.source import from_text
from support.chaos import store
from support.chaos.bodies import Body
from support.chaos.counts import Counts
from support.chaos.shapes import Job, Shape

CLOCK = 0.001  # seconds
FINAL = ("succeeded", "failed", "skipped", "cancelled")

#: Processes, and from when to when they were stopped.
Pause = tuple[frozenset[int], float, float]


class Judge:
    """Judges what `left` says of the sessions that were started.

    Each check gives sentences, one for each violation, and notes its count.
    """

    def __init__(
        self, left: store.Left, started: Mapping[str, Job], bodies: Sequence[Body], pauses: Sequence[Pause]
    ) -> None:
        self._left, self._started, self._bodies, self._pauses = left, started, bodies, pauses
        self._heads = {row.session_id: row for row in left.heads}
        self._steps = {(row.session_id, row.step): row for row in left.steps}
        self._attempts = {(row.session_id, row.step, row.attempt): row for row in left.attempts}
        self._runs: dict[tuple[str, str], list[Body]] = defaultdict(list)
        for body in bodies:
            self._runs[body.session, body.step].append(body)
        self.late_zombies = 0

    def fill(self, counts: Counts) -> list[str]:
        """Note every count; returns all violations."""
        found = {
            "lost": list(self.lost()),
            "stuck": list(self.stuck()),
            "wrong": list(self.wrong()),
            "repeated_after_checkpoint": list(self.repeated()),
            "other_violations": [*self.bodies(), *self.too_early(), *self.orphans(), *self.left_over(), *self.gaps()],
        }
        for name, violations in found.items():
            setattr(counts, name, len(violations))
        counts.sessions, counts.steps, counts.bodies = len(self._started), len(self._steps), len(self._bodies)
        counts.crashes_recorded = sum(row.kind == "crash" for row in self._left.attempts)
        counts.late_zombies = self.late_zombies
        return [f"{name}: {violation}" for name, violations in found.items() for violation in violations]

    # -- sessions
    def lost(self) -> Iterator[str]:
        """Started, by what the starter was told, and not in the store."""
        stored = {row.session_id for row in self._left.sessions}
        for session in self._started.keys() - stored:
            yield f"session {session} is not in the store"

    def stuck(self) -> Iterator[str]:
        for session, head in self._heads.items():
            if head.finished_at is None:
                steps = ", ".join(self._shown(row) for row in self._left.steps if row.session_id == session)
                yield f"session {session} is {head.status} ({head.halt}, {head.open_steps} open): {steps}"

    @staticmethod
    def _shown(row: Any) -> str:
        return f"{row.step} {row.status} attempt {row.attempt} sends {row.sends} wakes {row.wake_at}"

    def wrong(self) -> Iterator[str]:
        """Ended, and not as it had to."""
        for session, job in self._started.items():
            head = self._heads.get(session)
            if head is None or head.finished_at is None:
                continue
            output = None if head.output is None else json.loads(head.output)
            if (head.status, output) != (job.shape.status, job.output):
                yield (
                    f"session {session} ({job.shape.name}) is {head.status} with {output!r}, not {job.shape.status} "
                    f"with {job.output!r}: {head.error}"
                )

    # -- bodies
    def repeated(self) -> Iterator[str]:
        """D11: a checkpointed step is never run again.

        One thing is allowed: a process that had claimed, was stopped before its body began, and was taken for dead,
        begins when it goes on. Its token is worth nothing by then.
        """
        for (session, step), runs in self._runs.items():
            row = self._steps.get((session, step))
            if row is None or row.status not in FINAL:
                continue
            for body in runs:
                if body.began <= row.finished_at.timestamp() + CLOCK:
                    continue
                if self._was_stopped(body):
                    self.late_zombies += 1
                else:
                    yield f"{session}.{step} ended at {row.finished_at} in attempt {row.attempt}; then began {body}"

    def _was_stopped(self, body: Body) -> bool:
        released = self._attempts.get((body.session, body.step, body.attempt))
        if released is None or released.started_at is None:
            return False
        claimed = released.started_at.timestamp()
        return any(body.pid in pids and claimed <= to and since <= body.began for pids, since, to in self._pauses)

    def bodies(self) -> Iterator[str]:
        """One claim, one body; one body at the end that counts; each before it on record."""
        for (session, step), runs in self._runs.items():
            row = self._steps.get((session, step))
            if row is None:
                yield f"{session}.{step} ran and has no row"
                continue
            for attempt, count in Counter(body.attempt for body in runs).items():
                if count > 1:
                    yield f"{session}.{step} attempt {attempt} ran {count} times: {runs}"
                if attempt > row.attempt:
                    yield f"{session}.{step} attempt {attempt} ran, and the row says {row.attempt}"
        for (session, step), row in self._steps.items():
            recorded = {number for number in range(1, row.attempt) if (session, step, number) in self._attempts}
            if len(recorded) != row.attempt - 1:
                yield f"{session}.{step} is in attempt {row.attempt}, and only {sorted(recorded)} are on record"
            ran = {body.attempt for body in self._runs.get((session, step), ())}
            if row.status == "succeeded" and row.attempt not in ran:
                yield f"{session}.{step} succeeded in attempt {row.attempt}, whose body never began"

    def too_early(self) -> Iterator[str]:
        """Rule 3: nothing begins before the checkpoints that it needs."""
        for (session, step), runs in self._runs.items():
            job = self._started.get(session)
            for need in needs_of(job.shape)[step] if job else ():
                ended = self._steps.get((session, need))
                if ended is None or ended.finished_at is None or ended.finished_at.timestamp() > runs[0].began + CLOCK:
                    yield f"{session}.{step} began at {_moment(runs[0].began)}, before its need {need} had ended"

    # -- rows
    def orphans(self) -> Iterator[str]:
        stored = {row.session_id for row in self._left.sessions}
        for session in stored - self._started.keys():
            yield f"session {session} is in the store, and nobody started it"
        for table in ("heads", "steps", "attempts", "actions"):
            for row in getattr(self._left, table):
                if row.session_id not in stored:
                    yield f"{table}: a row of session {row.session_id}, which there is not"
        for session in stored - self._heads.keys():
            yield f"session {session} has no head"
        for session, step, attempt in self._attempts:
            if (session, step) not in self._steps:
                yield f"attempt {attempt} of {session}.{step}, which there is not"

    def left_over(self) -> Iterator[str]:
        """Steps of ended sessions that have not ended themselves."""
        for (session, step), row in self._steps.items():
            head = self._heads.get(session)
            if head is not None and head.finished_at is not None and row.status not in FINAL:
                yield f"session {session} is {head.status}, and its step {step} is {row.status}"

    def gaps(self) -> Iterator[str]:
        """Each version above the first is borne by some row; a later change of the same row may have taken its place,
        which happens to the row of a step that is tried again, whose attempt then bears it.
        """
        borne: dict[str, set[int]] = defaultdict(set)
        for table in ("heads", "steps", "attempts", "actions"):
            for row in getattr(self._left, table):
                borne[row.session_id].add(row.version)
        for session, head in self._heads.items():
            missing = set(range(2, head.version + 1)) - borne[session]
            if missing:
                yield f"session {session} is at version {head.version}, and no row bears {sorted(missing)}"


@functools.cache
def needs_of(shape: Shape) -> dict[str, tuple[str, ...]]:
    plan = make_plan(read_cascade(from_text(shape.text, source_format="yaml")))
    return {name: tuple(step.needs) for name, step in plan.steps.items()}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat()
