"""What has to be so at the end, read from the shop's files and from SQL. Pure but for reading files."""

from __future__ import annotations

import hashlib
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery_cascade.demo.order import ARTICLES, EXPECTED, INTERRUPTED, ORDER_ID, PAPERS
from celery_cascade.demo.progress import seconds_of, steps_of
from celery_cascade.demo.runs import Run, charges, picked, runs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known when the session has ended.

    Args:
        folder: of the shop, with its files.
        before: the session while no worker lived, as `to_dict()`.
        after: the session at its end.
        definition: the bytes that the store holds.
        exit_code: of the worker that was killed.
    """

    folder: Path
    before: dict[str, Any]
    after: dict[str, Any]
    definition: bytes
    exit_code: int | None

    @property
    def session_id(self) -> str:
        """Whose evidence it is."""
        found: str = self.after["session_id"]
        return found

    @property
    def runs(self) -> list[Run]:
        """Every time that code of a step was entered."""
        return runs_of(self.folder, self.session_id)

    @property
    def done_before(self) -> list[str]:
        """The steps that were finished when the worker died."""
        return [step["step"] for step in self.before["steps"] if step["status"] == "succeeded"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is so, or is not.

    Args:
        good: whether it is.
        text: what ought to be so.
        found: what is, where that says more.
    """

    good: bool
    text: str
    found: str = ""


def check_all(evidence: Evidence) -> list[Check]:
    """Every check, in the order in which they are shown."""
    return [
        killed(evidence),
        completed(evidence),
        ran_once(evidence),
        ran_twice(evidence),
        picked_once(evidence),
        charged_once(evidence),
        not_repeated(evidence),
        same_definition(evidence),
        same_result(evidence),
    ]


def killed(evidence: Evidence) -> Check:
    """The death was a real one, in the middle of a step."""
    running = [step["step"] for step in evidence.before["steps"] if step["status"] == "running"]
    good = evidence.exit_code == -signal.SIGKILL and running == [INTERRUPTED]
    found = f"exit code {evidence.exit_code}, running: {', '.join(running) or 'nothing'}"
    return Check(good, f"the worker died of SIGKILL while {INTERRUPTED!r} ran", found)


def completed(evidence: Evidence) -> Check:
    """The end was reached, and nobody was asked."""
    status = evidence.after["status"]
    return Check(status == "completed", "the session went on by itself to its end", str(status))


def ran_once(evidence: Evidence) -> Check:
    """What finished at its first attempt was entered once, whatever the database says."""
    counts = Counter(run.step for run in evidence.runs)
    others = [step for step in steps_of(evidence.after) if step != INTERRUPTED]
    wrong = [f"{step}: {counts[step]} runs" for step in others if counts[step] != 1]
    found = ", ".join(wrong) or "counted in runs.csv"
    return Check(not wrong, f"each of the other {len(others)} steps ran exactly once", found)


def ran_twice(evidence: Evidence) -> Check:
    """The interrupted step had a second attempt, in another process, and no third."""
    runs = [run for run in evidence.runs if run.step == INTERRUPTED]
    row = steps_of(evidence.after)[INTERRUPTED]
    pids = {run.pid for run in runs}
    good = [run.attempt for run in runs] == [1, 2] and len(pids) == 2 and row["attempt"] == 2 and row["crashes"] == 1
    found = ", ".join(f"attempt {run.attempt} in process {run.pid}" for run in runs)
    return Check(good, f"{INTERRUPTED!r} alone ran twice", found)


def picked_once(evidence: Evidence) -> Check:
    """The second attempt did not repeat what the first had done: it had the same idempotency key."""
    rows = picked(evidence.folder, ORDER_ID)
    by_process = list(Counter(pid for _, pid in rows).values())
    good = len(rows) == ARTICLES and len({article for article, _ in rows}) == ARTICLES and len(by_process) == 2
    found = f"{' + '.join(str(count) for count in by_process)} articles, before and after the kill"
    return Check(good, f"each of the {ARTICLES} articles was picked once", found)


def charged_once(evidence: Evidence) -> Check:
    """The ledger has one line, under the key that D11 promises."""
    keys = charges(evidence.folder, ORDER_ID)
    return Check(keys == [f"{evidence.session_id}:charge:0"], "the card was charged once", f"key {', '.join(keys)}")


def not_repeated(evidence: Evidence) -> Check:
    """The rows of the steps that had finished are what they were."""
    before, after = steps_of(evidence.before), steps_of(evidence.after)
    done = evidence.done_before
    touched = [step for step in done if before[step] != after[step]]
    good = bool(done) and not touched
    saved = sum(seconds_of(before[step]) or 0.0 for step in done)
    found = f"touched: {', '.join(touched)}" if touched else f"{', '.join(done)}: {saved:.1f} s of work"
    return Check(good, f"the {len(done)} steps that had finished were not repeated", found)


def same_definition(evidence: Evidence) -> Check:
    """What is stored is the file, byte for byte."""
    file = (evidence.folder / "order.yaml").read_bytes()
    digests = {hashlib.sha256(body).hexdigest() for body in (file, evidence.definition)}
    good = file == evidence.definition and digests == {evidence.after["definition_sha256"]}
    found = f"{len(file)} bytes, sha256 {hashlib.sha256(file).hexdigest()[:16]}"
    return Check(good, "the stored definition is order.yaml, byte for byte", found)


def same_result(evidence: Evidence) -> Check:
    """The session gave what an undisturbed one gives, and its papers are there."""
    output = evidence.after["output"]
    papers = [path for path in EXPECTED.values() if str(path).startswith(PAPERS)]
    missing = [path for path in papers if not (evidence.folder / str(path)).is_file()]
    found = f"missing: {', '.join(map(str, missing))}" if missing else f"receipt {(output or {}).get('receipt')}"
    return Check(output == EXPECTED and not missing, "the result is that of an undisturbed run", found)
