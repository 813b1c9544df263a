"""Everything is killed at random on servers of its own, and afterwards it is counted (docs/reliability.md)."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from support import stacks
from support.chaos.run import Plan, run

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KILLS = 20
SEED = "CASCADE_CHAOS_SEED"


@pytest.mark.parametrize("stack", stacks.DEFAULT)
def test_nothing_is_lost_stuck_or_repeated_while_everything_is_killed(stack: str, tmp_path: Path) -> None:
    """R81, R127, R142, D11: by the driver of `scripts/chaos`, in about a minute. CASCADE_CHAOS_SEED repeats a run."""
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(10**6))
    plan = Plan(stack=stack, seed=seed, sessions=30, kills=KILLS, seconds=20, patience=120)
    counts, violations = run(plan, tmp_path / "project", print)
    print("\n".join(counts.lines()))
    assert violations == [], f"{SEED}={seed} makes the same choices again; the logs are in {tmp_path}"
    assert counts.kills >= KILLS
    assert counts.sessions >= plan.sessions
    assert min(counts.faults["worker killed"], counts.faults["busy pool child killed"]) > 0, counts.faults
