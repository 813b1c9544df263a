"""Two crashes: one in the run, one in the recovery from it. A sample; all of them by `scripts/crashes --pairs all`."""

from __future__ import annotations

import random

import pytest

from crash.grounds import Grounds
from crash.kit import hold
from crash.plans import Trial
from crash.runs import Combination
from crash.scenarios import WORK

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Of a hundred second crashes so many may not come about: after a crash at the very end little is left to crash in.
FEW_LATE = 20
#: 200 pairs in all, on a pool for each database: singles have met all nine. Fewer where a run takes longer.
SAMPLE = {"sqlite": ("prefork", 40), "postgresql": ("threads", 80), "mariadb": ("solo", 80)}


def test_a_run_that_is_killed_and_killed_again_in_its_recovery_ends_as_the_undisturbed_one(
    on: tuple[str, Grounds],
) -> None:
    """R81, R142."""
    database, grounds = on
    pool, count = SAMPLE[database]
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}: scripts/crashes --database {database} --pool {pool} --pairs {count} --seed {seed}")
    combination = Combination(database, pool)
    trial = Trial(grounds, combination, WORK)
    plans = trial.sampled_pairs(random.Random(seed), count)
    hold(trial, combination, WORK, plans, few=FEW_LATE)
