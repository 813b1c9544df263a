"""`crash_test`: run a user's cascade, crash it everywhere, and tell what came of it."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from celery import Celery
from celery.canvas import Signature

from celery_cascade.app import cascades_of
from celery_cascade.crash_points import CrashPoint
from celery_cascade.definition.plan import Plan
from celery_cascade.errors import UsageError
from celery_cascade.sessions.starting import Target, begin
from celery_cascade.states import SessionStatus
from celery_cascade.testing import journal, sandbox
from celery_cascade.testing.bodies import BY_TIMER
from celery_cascade.testing.crash_report import CrashReport, rows_of
from celery_cascade.testing.crashes import IN_BODY, Crash, crashes_at, crashes_inside, points_of
from celery_cascade.testing.points import CRASHED
from celery_cascade.testing.processes import RAISED, run_apart
from celery_cascade.testing.sandbox import Experiment
from celery_cascade.testing.trials import Run, Trial, trial_of, variation
from celery_cascade.words import listed

#: Seconds that one process of a run may take.
TIMEOUT = 60.0

Tell = Callable[[int, int, Crash | None], None]


def crash_test(
    app: Celery | str | None,
    target: Target | Signature,
    inputs: Mapping[str, Any] | None = None,
    *,
    points: str | Iterable[str] = (),
    in_body: int = IN_BODY,
    effects: Callable[[], Any] | None = None,
    reset: Callable[[], Any] | None = None,
    ignore: Iterable[str] = (),
    timeout: float = TIMEOUT,
    keep: bool = False,
    tell: Tell | None = None,
) -> CrashReport:
    """Run a cascade in a sandbox, crash it at every point of every step, and tell what came of it.

    Each run has a store of its own in a temporary folder, no broker, and forked processes of this one: one that ends
    at the crash, as by SIGKILL, and a fresh one that goes on. The tasks are the app's own, and run for real each time.

    Args:
        app: as for `run_cascade`.
        target, inputs: as for `Cascades.start`.
        points: names of crash points; none = those that matter to what tasks do.
        in_body: crashes inside each body, spread evenly.
        effects: returns what the steps have done outside, as JSON; compared with that of the undisturbed run.
        reset: brings the outside back to what it was; called before each run.
        ignore: paths that differ from run to run anyway: `output.token`, `effects.*.at`.
        timeout: seconds that a run may take, before the crash and after it.
        keep: leave the sandbox's folder where it is.
        tell: called before each run with its number, how many there will be, and the crash.

    Raises:
        UsageError: an option, or one of the two functions, cannot be used.
        DefinitionError, InputError, TemplateError: the cascade cannot be started.
    """
    wanted = points_of([points] if isinstance(points, str) else points)
    if in_body < 0 or timeout <= 0:
        raise UsageError(f"in_body is {in_body} and timeout {timeout:g}; neither may be negative, nor timeout 0")
    runtime = cascades_of(app).runtime
    beginning = begin(runtime, target, inputs, sandbox.SESSION)
    experiment = Experiment(
        runtime=runtime,
        target=target if isinstance(target, Signature) else beginning.source,
        inputs=inputs,
        effects=effects,
        reset=reset,
    )
    folder = Path(tempfile.mkdtemp(prefix="cascade-crashtest-"))
    runs = _Runs(experiment, folder, timeout)
    test = _Test(runs, beginning.facts.plan, tuple(ignore), tell or _silent)
    try:
        return test.report(wanted, in_body, kept=str(folder) if keep else None)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _silent(number: int, count: int, crash: Crash | None) -> None:
    pass


class _Test:
    """The runs of one crash test, and what they have shown."""

    def __init__(self, runs: _Runs, plan: Plan, ignore: tuple[str, ...], tell: Tell) -> None:
        self._runs = runs
        self._plan = plan
        self._ignore = ignore
        self._tell = tell

    def report(self, points: Sequence[CrashPoint], in_body: int, *, kept: str | None) -> CrashReport:
        """Run it twice undisturbed, then once a crash."""
        began = time.monotonic()
        self._tell(0, 0, None)
        undisturbed, again = self._runs.undisturbed(), self._runs.undisturbed(count_lines=True)
        harm = _not_to_be_tested(undisturbed, again, self._ignore)
        trials = [] if harm else list(self._trials(undisturbed, again, points, in_body))
        made = tuple(trial for trial in trials if trial is not None)
        return CrashReport(
            cascade=self._plan.cascade.id,
            rows=rows_of(made),
            trials=made,
            harm=tuple(harm),
            notes=() if harm else tuple(_notes(undisturbed, points, self._runs.experiment, trials.count(None))),
            seconds=time.monotonic() - began,
            folder=kept,
        )

    def _trials(
        self, undisturbed: Run, again: Run, points: Sequence[CrashPoint], in_body: int
    ) -> Iterator[Trial | None]:
        """What came of each crash; None = it came too late."""
        crashes = [
            *crashes_at(undisturbed.entries, points),
            *crashes_inside(undisturbed.entries, again.entries, in_body),
        ]
        steps = list(dict.fromkeys(entry.step for entry in undisturbed.entries))
        crashes.sort(key=lambda crash: steps.index(crash.step))
        for number, crash in enumerate(crashes, 1):
            self._tell(number, len(crashes), crash)
            run = self._runs.crashed(crash)
            step = None if crash.step is None else self._plan.steps[crash.step]
            yield None if run is None else trial_of(crash, run, undisturbed, step, self._ignore)


class _Runs:
    """Runs of the experiment, each in a folder of its own."""

    def __init__(self, experiment: Experiment, folder: Path, timeout: float) -> None:
        self.experiment = experiment
        self._folder = folder
        self._timeout = timeout
        self._count = 0

    def undisturbed(self, *, count_lines: bool = False) -> Run:
        """One without a crash."""
        folder = self._new_folder()
        code = self._apart(folder, lambda: sandbox.begin(self.experiment, folder, crash=None, lines=count_lines))
        return self._left(folder, code)

    def crashed(self, crash: Crash) -> Run | None:
        """One that crashes and goes on; None if its process had ended before the crash could come."""
        folder = self._new_folder()
        code = self._apart(folder, lambda: sandbox.begin(self.experiment, folder, crash=crash))
        died_at = time.monotonic()
        if code in (CRASHED, BY_TIMER):
            code = self._apart(folder, lambda: sandbox.go_on(self.experiment, folder))
        elif code == 0:
            self._left(folder, code)
            return None
        return self._left(folder, code, died_at)

    def _new_folder(self) -> Path:
        template = self._folder / "template"
        if not template.exists():
            template.mkdir()
            sandbox.make_store(template)
        self._count += 1
        folder = self._folder / f"run-{self._count:04d}"
        sandbox.copy_store(template, folder)
        return folder

    def _apart(self, folder: Path, work: Callable[[], None]) -> int | None:
        return run_apart(work, folder / sandbox.LOG, timeout=self._timeout)

    def _left(self, folder: Path, code: int | None, died_at: float | None = None) -> Run:
        """What a run has left in its folder. Raises UsageError: a function of the user's has failed."""
        answer: dict[str, Any] | None = None
        ended = f"it was not done after {self._timeout:g} s" if code is None else f"its process ended with exit {code}"
        if code == RAISED:
            ended = f"its process failed: {_last_line(folder)}"
        elif code == 0:
            answer = json.loads((folder / sandbox.ANSWER).read_text(encoding="utf-8"))
            if "unusable" in answer:
                raise UsageError(
                    answer["unusable"], hint="Keep the sandbox, and see what was printed there, with: keep=True, --keep"
                )
        entries = journal.read(folder / sandbox.JOURNAL)
        return Run(entries=entries, answer=answer, ended=ended, died_at=died_at, finished_at=time.monotonic())


def _last_line(folder: Path) -> str:
    """Of what was printed there: the error."""
    lines = (folder / sandbox.LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else "nothing was printed"


def _not_to_be_tested(one: Run, other: Run, ignore: tuple[str, ...]) -> list[str]:
    """Why crashes would show nothing: it does not even end well, or never twice the same."""
    for run in (one, other):
        if run.answer is None:
            return [run.ended]
        if run.answer.get("status") != SessionStatus.COMPLETED:
            error = run.answer.get("error")
            why = f"{error['type']}: {error['message']}" if isinstance(error, dict) else error or run.answer["reason"]
            return [f"the session is {run.answer.get('status', 'not done')}: {why}"]
    varying = variation(one, other, ignore)
    return varying and [
        f"two runs in a row differ ({varying[0]}), so a difference after a crash would say nothing.",
        "Give --reset (reset=) a function that brings the outside back to what it was before each run,",
        "or name with --ignore (ignore=) what differs from run to run anyway.",
    ]


def _notes(undisturbed: Run, points: Sequence[CrashPoint], experiment: Experiment, late: int) -> Iterator[str]:
    if experiment.effects is None:
        yield "What the steps do outside was not looked at; that takes --effects (effects=)."
    sent = sorted({entry.detail for entry in journal.of(undisturbed.entries, journal.SENT)})
    if sent:
        yield f"Messages that bodies sent ({listed(sent)}) went nowhere: the sandbox has no broker."
    passed = {entry.what for entry in undisturbed.entries}
    missed = [point.value for point in points if point not in passed and point is not CrashPoint.IN_BODY]
    if missed:
        yield f"Never reached here: {listed(missed, most=40)}."
    if late:
        yield f"Crashes that came too late, since the body was quicker than before: {late}."
