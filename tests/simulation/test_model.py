"""Simulation of the pure engine: 10,000 histories in virtual time, and the engine broken on purpose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_cascade.engine import advance as engine
from celery_cascade.engine.decision import Decision, Queue
from celery_cascade.states import Halt, StepStatus
from simulation import __main__ as simulate
from simulation import model_world, record
from simulation.choices import Choices, read, written
from simulation.history import History
from simulation.many import played
from simulation.model import RESEND_AFTER, Row, Store
from simulation.model_world import World, play
from simulation.shrink import Shrinker

HISTORIES = 10_000
WITHIN = 500  #: seeds in which a broken engine must show

Patch = pytest.MonkeyPatch


def test_10_000_histories_lose_nothing_repeat_nothing_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    """R127, R134: nothing lost, nothing after its checkpoint, an end in bounded time once faults stop."""
    counts = played(True, HISTORIES, capsys)
    assert counts.crashes > HISTORIES / 4
    for seen in ("takeover", "late writer refused", "body of a zombie", "completed", "cancelled"):
        assert counts.seen[seen] > HISTORIES / 100, f"{seen} hardly ever came about: {dict(counts.seen)}"


def test_several_processes_play_the_same_as_one_and_record_it(tmp_path: Path) -> None:
    def recorded(jobs: int) -> dict[str, Any]:
        file = tmp_path / f"{jobs}.json"
        words = ["--model", "--runs", "1200", "--base", "7", "--jobs", str(jobs), "--record", str(file)]
        done = subprocess.run(
            [sys.executable, "-m", "simulation", *words],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(file.read_text())[record.MODEL]) | {"seconds": 0}

    one, two = recorded(1), recorded(2)

    assert one == two
    assert (one["histories"], one["lost"], one["stuck"], one["repeated"]) == (1200, 0, 0, 0)


def test_a_history_is_the_same_each_time_and_when_only_its_choices_are_kept() -> None:
    for seed in range(50):
        once, again = play(seed, telling=True), play(seed, telling=True)
        kept = play(seed, keep=read(written(once.made)), telling=True)

        assert once.lines == again.lines == kept.lines
        assert once.made == kept.made


def test_a_history_whose_choices_are_all_the_plainest_has_no_fault() -> None:
    for seed in range(50):
        history = play(seed, keep={})

        assert history.problem is None
        assert not history.faults


# --- broken on purpose --------------------------------------------------------------------------------------------


def gate_left_out(patch: Patch) -> None:
    """The token dropped from the WHERE of the checkpoint."""
    patch.setattr(Store, "_gate", lambda self, name, token: None)


def arrival_skipped(patch: Patch) -> None:
    real = engine.advance

    def advance(*args: Any) -> Decision:
        found = real(*args)
        return replace(found, arrive=dict(list(found.arrive.items())[1:]))

    patch.setattr(engine, "advance", advance)


def arrival_counted_by_siblings(patch: Patch) -> None:
    """Each member looks at how many of its siblings have ended, instead of arriving."""
    real = Store._apply

    def apply(self: Store, decision: Decision) -> list[str]:
        for join in decision.arrive:
            ended = [self.rows[need].status.final for need in self.case.plan.steps[join].needs if need in self.rows]
            self.rows[join].needs_left = len(self.case.plan.steps[join].needs) - sum(ended) + 1
        return real(self, decision)

    patch.setattr(Store, "_apply", apply)


def crash_counted_as_done(patch: Patch) -> None:
    def release(self: Store, name: str, token: int, *, delay: float) -> bool:
        row = self.rows[name]
        row.status = StepStatus.SUCCEEDED
        self.open_steps -= 1
        return True

    patch.setattr(Store, "release", release)


def orphans_forgotten(patch: Patch) -> None:
    patch.setattr(World, "_looks_dead", lambda self, name: False)


def judged_by_a_glance(patch: Patch) -> None:
    """A worker that is only slow is taken for dead."""
    patch.setattr(World, "_looks_dead", lambda self, name: True)


def resend_forgotten(patch: Patch) -> None:
    patch.setattr(Store, "take_due", lambda self: [])


def published_before_the_commit(patch: Patch) -> None:
    real = World._commit

    def start(self: World) -> model_world.Activity:
        roots = [(name, 1) for name in self.case.plan.roots]
        yield from self._publish(roots)
        plan = self.case.plan
        started = engine.Started()
        decision = engine.advance(plan, self.store.facts(engine.reads_after(plan, started)), started)
        yield from real(self, lambda: self.store.start(decision))

    patch.setattr(World, "start", start)


def claim_of_a_running_row(patch: Patch) -> None:
    """A message takes over what somebody else runs."""
    real = Store.claim

    def claim(self: Store, name: str, attempt: int, token: int, worker: str | None) -> bool:
        row = self.rows[name]
        if row.status is StepStatus.RUNNING and row.attempt == attempt:
            row.status = StepStatus.QUEUED
        return real(self, name, attempt, token, worker)

    patch.setattr(Store, "claim", claim)


def claim_of_any_attempt(patch: Patch) -> None:
    """The message of an attempt that is over takes the next one."""
    real = Store.claim
    patch.setattr(
        Store,
        "claim",
        lambda self, name, attempt, token, worker: real(self, name, self.rows[name].attempt, token, worker),
    )


def release_without_the_token(patch: Patch) -> None:
    """A stale list of orphans takes what somebody else runs by now."""
    real = Store.release

    def release(self: Store, name: str, token: int, *, delay: float) -> bool:
        return real(self, name, self.rows[name].token or token, delay=delay)

    patch.setattr(Store, "release", release)


def halt_forgotten_by_a_setback(patch: Patch) -> None:
    """A retry is queued although its session was asked to halt, and nobody takes it back."""

    def again(self: Store, row: Row, delay: float) -> bool:
        row.attempt += 1
        row.status, row.sends, row.wake_at = StepStatus.QUEUED, 1, self.now + (delay or RESEND_AFTER)
        return not delay

    patch.setattr(Store, "_again", again)
    patch.setattr(Store, "_park_queued", lambda self: None)


def skips_not_carried_on(patch: Patch) -> None:
    """What needs only skipped steps is run all the same."""
    real = Store.prepared

    def prepared(self: Store, name: str) -> Any:
        found = real(self, name)
        return Queue(name, engine.Call()) if isinstance(found, engine.Skip) else found

    patch.setattr(Store, "prepared", prepared)


def cancel_that_ends_a_running_step(patch: Patch) -> None:
    real = Store.ask_to_halt

    def ask(self: Store, halt: Halt) -> None:
        real(self, halt)
        for row in self.rows.values():
            if row.status is StepStatus.RUNNING:
                row.status = StepStatus.PENDING

    patch.setattr(Store, "ask_to_halt", ask)


BROKEN = [
    gate_left_out, arrival_skipped, arrival_counted_by_siblings, crash_counted_as_done, orphans_forgotten,
    judged_by_a_glance, resend_forgotten, published_before_the_commit, claim_of_a_running_row, claim_of_any_attempt,
    release_without_the_token, halt_forgotten_by_a_setback, skips_not_carried_on, cancel_that_ends_a_running_step,
]  # fmt: skip


def first_wrong(of: Callable[[int], History] = play) -> History | None:
    return next((found for seed in range(WITHIN) if (found := of(seed)).problem is not None), None)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_engine_or_store_is_caught_within_some_hundred_seeds(
    monkeypatch: Patch, broken: Callable[[Patch], None]
) -> None:
    broken(monkeypatch)

    assert first_wrong() is not None


def test_a_failing_history_shrinks_to_one_that_a_command_plays_again(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    gate_left_out(monkeypatch)
    failed = first_wrong()
    assert failed is not None

    def again(keep: Any, dropped: Any) -> History:
        return play(failed.seed, keep=keep, dropped=dropped)

    shrinker = Shrinker(again, failed)
    small = shrinker.run()

    assert small.problem is not None
    assert small.steps <= 4
    assert len(shrinker.keep) <= 6
    words = shrinker.command("--model").replace("'", "").split()[1:]
    assert simulate.main(words) == 1
    printed = capsys.readouterr().out
    assert small.problem in printed
    assert "** pause" in printed or "** crash" in printed, "what it took to go wrong is not printed"


def test_choices_that_are_left_out_are_the_plainest() -> None:
    choices = Choices(1, {1: 3, 2: 1})

    assert [choices.pick(5), choices.pick(5), choices.flip(0.0), choices.flip(1.0)] == [0, 3, True, False]
    assert read(written({1: 3, 2: 1})) == {1: 3, 2: 1}
