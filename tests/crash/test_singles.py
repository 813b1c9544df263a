"""R81, R142: a worker is killed at each crash point of a cascade, and each time everything comes to its end."""

from __future__ import annotations

import pytest

from celery_cascade.crash_points import CrashPoint
from crash.grounds import DATABASES, POOLS, Grounds
from crash.kit import hold
from crash.plans import SHARES, Plan, Trial
from crash.runs import Combination
from crash.scenarios import CANCELS, CONVERSATION, OPERATIONS, PRUNE, WORK, Scenario

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: R142, in its own words.
MATRIX = {
    "before publish": CrashPoint.PUBLISH,
    "after publish": CrashPoint.PUBLISHED,
    "during step": CrashPoint.IN_BODY,
    "after step before checkpoint": CrashPoint.BODY_ENDED,
    "after checkpoint": CrashPoint.CHECKPOINTED,
    "during chord join": CrashPoint.JOIN_ARRIVED,
}
#: What else a run of the enumerated cascade meets, whatever the pool.
MORE = {
    CrashPoint.START_OPEN,
    CrashPoint.STARTED,
    CrashPoint.FAN_OUT_HALF,
    CrashPoint.CLAIM,
    CrashPoint.CLAIMED,
    CrashPoint.BODY,
    CrashPoint.CHECKPOINT_OPEN,
    CrashPoint.JOIN_READY,
    CrashPoint.SETBACK_OPEN,
    CrashPoint.RETRY_SCHEDULED,
    CrashPoint.ACK,
    CrashPoint.ACKED,
    CrashPoint.TIMER_OPEN,
    CrashPoint.TIMER_TAKEN,
    CrashPoint.END_OPEN,
    CrashPoint.ENDED,
}


def points_of(trial: Trial) -> set[CrashPoint]:
    return {place.point for _, place in trial.singles()}


def assert_shares_are_all(trial: Trial) -> None:
    """What one of the three leaves out another takes."""
    taken = {single for share in range(SHARES) for single in trial.quick(share, share)}
    assert taken >= set(trial.singles(children=False))
    assert {place.point for _, place in taken if place.child} == {p.point for _, p in trial.singles() if p.child}


@pytest.mark.parametrize("pool", POOLS)
def test_a_run_that_is_killed_anywhere_ends_as_the_undisturbed_one(on: tuple[str, Grounds], pool: str) -> None:
    """R81, R142, R127: the six points of R142 on each pool, and all visits, each on one pool of the three.

    Children of a pool are lost at those six on each database, and at each other point on one of the three.
    """
    database, grounds = on
    combination = Combination(database, pool)
    trial = Trial(grounds, combination, WORK)
    assert points_of(trial) >= {*MATRIX.values(), *MORE}
    assert_shares_are_all(trial)
    plans = [
        Plan.single(stage, place)
        for stage, place in trial.quick(POOLS.index(pool), DATABASES.index(database), set(MATRIX.values()))
    ]
    hold(trial, combination, WORK, plans)


@pytest.mark.parametrize("scenario", [CANCELS, PRUNE], ids=lambda scenario: scenario.name)
def test_a_prune_or_a_cancel_in_a_worker_that_is_killed_is_made_good(
    on: tuple[str, Grounds], scenario: Scenario
) -> None:
    """R142, R121: the rest of a prune goes the next time, what has to stay stays, and a halted session ends once.

    All visits of the prune and of the step that cancels, on each database; together they take every pool.
    """
    database, grounds = on
    number = DATABASES.index(database)
    combination = Combination(database, POOLS[(number + (scenario is PRUNE)) % len(POOLS)])
    trial = Trial(grounds, combination, scenario)
    wanted = {PRUNE: {CrashPoint.PRUNE_OPEN, CrashPoint.PRUNED}, CANCELS: {CrashPoint.HALT_OPEN, CrashPoint.HALTED}}
    assert points_of(trial) >= wanted[scenario]
    plans = [
        Plan.single(stage, place)
        for stage, place in trial.singles()
        if scenario is PRUNE or place.step in (None, "stop")
    ]
    hold(trial, combination, scenario, plans)


#: Where the delta of a step is written or dropped, and where the next turn takes over what is there.
SHARING = {
    CrashPoint.CHECKPOINT_OPEN,
    CrashPoint.CHECKPOINTED,
    CrashPoint.SETBACK_OPEN,
    CrashPoint.RETRY_SCHEDULED,
    CrashPoint.ENDED,
    CrashPoint.REVIVE_OPEN,
    CrashPoint.REVIVED,
}


def test_what_steps_share_is_there_once_whatever_was_killed_and_the_next_turn_goes_on_from_it(
    on: tuple[str, Grounds],
) -> None:
    """R139, R142, D12: each delta of the context and each message, in their order; an attempt that failed leaves none.

    The named points on each database, each visit on one of them; together they take every pool.
    """
    database, grounds = on
    share = DATABASES.index(database)
    combination = Combination(database, POOLS[share])
    trial = Trial(grounds, combination, CONVERSATION)
    asked, followed = trial.calm.ends
    assert [row[1] for row in asked.shared] == ["asks"] * 3 + ["fails"] * 3 + ["answers"] * 3
    assert [row[1] for row in followed.shared] == [None, *["goes_on"] * 3]
    assert '"ran":["asks","fails","answers","goes_on"]' in str(followed.output)
    assert points_of(trial) >= SHARING
    assert_shares_are_all(trial)
    hold(trial, combination, CONVERSATION, [Plan.single(*one) for one in trial.quick(share, share, SHARING)])


EXPECTED: dict[str, set[CrashPoint]] = {
    "recovery": {CrashPoint.BURIED, CrashPoint.RELEASE_OPEN, CrashPoint.RELEASED, CrashPoint.RECOVERY_HALF},
    "poisoned": {CrashPoint.PARK_OPEN, CrashPoint.PARKED, CrashPoint.REVIVE_OPEN, CrashPoint.REVIVED},
    "suspend": {CrashPoint.HALT_OPEN, CrashPoint.HALTED, CrashPoint.REVIVE_OPEN, CrashPoint.REVIVED},
    "cancel": {CrashPoint.HALT_OPEN, CrashPoint.HALTED, CrashPoint.PARKED, CrashPoint.END_OPEN, CrashPoint.ENDED},
    "forks": {CrashPoint.FORK_OPEN, CrashPoint.FORKED},
    "expiry": {CrashPoint.HALT_OPEN, CrashPoint.HALTED, CrashPoint.PARKED, CrashPoint.END_OPEN, CrashPoint.ENDED},
}


@pytest.mark.parametrize("scenario", OPERATIONS, ids=lambda scenario: scenario.name)
def test_an_act_that_is_killed_anywhere_can_be_done_again(on: tuple[str, Grounds], scenario: Scenario) -> None:
    """R81, R134, R22, R132: recovery, cancel, suspend, resume, expiry, fork, rerun of a session whose three steps have
    lost their worker: each named point on each database, each visit on one of them."""
    database, grounds = on
    combination = Combination(database, "threads")
    trial = Trial(grounds, combination, scenario)
    assert points_of(trial) >= EXPECTED[scenario.name]
    assert_shares_are_all(trial)
    share = DATABASES.index(database)  # an act needs no pool, so here the databases divide what is left
    plans = [Plan.single(stage, place) for stage, place in trial.quick(share, share, EXPECTED[scenario.name])]
    hold(trial, combination, scenario, plans)
