"""One crash and what came of it, compared with what happens without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_cascade.crash_points import CrashPoint
from celery_cascade.definition.cascade import Step
from celery_cascade.states import SessionStatus, SuspendReason
from celery_cascade.testing import journal
from celery_cascade.testing.crashes import Crash
from celery_cascade.testing.differences import difference
from celery_cascade.testing.journal import Entry, Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of the session left behind.

    Attributes:
        entries: the journal of its processes.
        answer: what the last of them said; None = nothing.
        ended: why there is no answer, in words.
        died_at: when the first process was gone, by the monotonic clock; None = it was not to crash.
        finished_at: when the last process was.
    """

    entries: Sequence[Entry]
    answer: Mapping[str, Any] | None
    ended: str = ""
    died_at: float | None = None
    finished_at: float = 0.0

    @property
    def bodies(self) -> Counter[Key]:
        """How often the body of each step began."""
        return Counter((e.step, e.item) for e in journal.of(self.entries, CrashPoint.BODY) if e.step is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A crash, and what came of it.

    Attributes:
        step: whose crash it was; None = the session's, at its start or end.
        point: the crash point's name, or `in_body`.
        where: that in words.
        ran_again: its body began once more than it does without a crash.
        asked_key: its body asked for `current_session().idempotency_key`.
        outcome: `went on`; `asks` or `fails`, as the step's `on_crash` says; or `harm`.
        same_output, same_effects: as without a crash; None = not compared.
        back: seconds until the session moved again in a fresh process.
        harm: what went wrong, in words.
    """

    step: str | None
    point: str
    where: str
    ran_again: bool
    asked_key: bool
    outcome: str
    same_output: bool | None
    same_effects: bool | None
    back: float | None
    harm: tuple[str, ...]


def trial_of(crash: Crash, run: Run, undisturbed: Run, step: Step | None, ignore: Iterable[str]) -> Trial:
    """Compare a run that crashed with the one that did not.

    Args:
        step: whose crash it was.
        ignore: paths that differ from run to run anyway.
    """
    crashed = (crash.step or "", crash.item)
    more = _more(crash, run, undisturbed)
    ran_again = more[crashed] > 0
    on_crash = "retry" if step is None else step.on_crash
    outcome, output, effects = "went on", None, None
    harm = [*_repeated(run), *_beside(more, crashed)]
    if ran_again and on_crash != "retry":
        harm.append(f"on_crash of {crash.step} is {on_crash!r}, and its body ran twice")
    if run.answer is None:
        harm.append(run.ended)
    elif (stopped := _stopped(run.answer, on_crash)) is not None:
        outcome = stopped
    else:
        same = _compared(run.answer, undisturbed.answer or {}, list(ignore))
        output, effects = same.pop("output"), same.pop("effects")
        harm += [words for words in (*same.values(), output, effects) if words]
        output, effects = output or "", None if "effects" not in run.answer else effects or ""
    return Trial(
        step=crash.step,
        point=crash.name,
        where=crash.words,
        ran_again=ran_again,
        asked_key=any(e.step == crash.step for e in journal.of(run.entries, journal.KEY_ASKED)),
        outcome="harm" if harm else outcome,
        same_output=None if output is None else not output,
        same_effects=None if effects is None else not effects,
        back=_back(run),
        harm=tuple(harm),
    )


def _compared(after: Mapping[str, Any], before: Mapping[str, Any], ignore: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {"status": None, "output": None, "effects": None}
    if after.get("error") and "status" not in after:
        found["status"] = f"it could not go on: {after['error']}"
    elif after["status"] != before["status"]:
        why = after["error"]["message"] if after["error"] else after["reason"]
        found["status"] = f"the session is {after['status']}" + (f": {why}" if why else "")
    else:
        for what in ("output", "effects"):
            found[what] = difference(before.get(what), after.get(what), what, ignore)
    return found


def variation(one: Run, other: Run, ignore: Iterable[str]) -> list[str]:
    """What differs between two runs without a crash: there, a difference after one would say nothing."""
    found = _compared(other.answer or {}, one.answer or {}, list(ignore))
    return [words for words in found.values() if words]


def _stopped(answer: Mapping[str, Any], on_crash: str) -> str | None:
    """How a step's `on_crash` has stopped the session, which is what it is there for."""
    status = answer.get("status")
    if status == SessionStatus.SUSPENDED and answer.get("reason") == SuspendReason.IN_DOUBT and on_crash == "ask":
        return "asks"
    return "fails" if status == SessionStatus.FAILED and on_crash == "fail" else None


def _more(crash: Crash, run: Run, undisturbed: Run) -> Counter[Key]:
    """How much oftener each body ran than without a crash."""
    more = run.bodies
    more.subtract(undisturbed.bodies)
    if crash.name == CrashPoint.BODY and crash.step is not None:  # it had not begun there
        more[crash.step, crash.item] -= 1
    return more


def _repeated(run: Run) -> list[str]:
    """Steps whose body began after their checkpoint."""
    done: set[tuple[str | None, int]] = set()
    found = []
    for entry in run.entries:
        if entry.what == CrashPoint.CHECKPOINTED:
            done.add((entry.step, entry.item))
        elif entry.what == CrashPoint.BODY and (entry.step, entry.item) in done:
            found.append(f"{entry.step} ran again after its checkpoint")
    return found


def _beside(more: Mapping[Key, int], crashed: Key) -> list[str]:
    """Steps that ran more often than the crash accounts for."""
    return [
        f"{key[0]} ran {count} times more than without a crash"
        for key, count in more.items()
        if count > int(key == crashed)
    ]


def _back(run: Run) -> float | None:
    """From the crash until a step was claimed again, or the session had ended."""
    if run.died_at is None:
        return None
    later = [e for e in run.entries if e.at > run.died_at]
    claimed = [e.at for e in later if e.what in (CrashPoint.CLAIMED, CrashPoint.END_OPEN)]
    return (claimed[0] if claimed else run.finished_at) - run.died_at
