"""What the enumeration counts as a repeated step, and what not."""

from __future__ import annotations

from collections import Counter

import pytest

from crash.checks import Seen, Violation, check_repeats


def seen(**effects: int) -> Seen:
    return Seen(status="cancelled", output=None, version=1, steps={}, effects=Counter(effects))


def test_a_step_that_the_undisturbed_cancel_forestalled_may_run_once_and_once_more_a_crash() -> None:
    check_repeats(seen(stop=2, plain=2), seen(stop=1), crashes=1, all_ran=False)


@pytest.mark.parametrize("undisturbed", [seen(stop=1), seen(stop=1, plain=1)])
def test_a_step_that_runs_twice_more_for_one_crash_is_repeated(undisturbed: Seen) -> None:
    with pytest.raises(Violation, match="repeated: step plain had 3 effects; with 1 crashes at most 2"):
        check_repeats(seen(stop=2, plain=3), undisturbed, crashes=1, all_ran=False)


def test_where_no_race_decides_a_step_that_did_not_run_undisturbed_gets_no_run_for_free() -> None:
    with pytest.raises(Violation, match="step never had 2 effects; with 1 crashes at most 1"):
        check_repeats(seen(stop=1, never=2), seen(stop=1), crashes=1, all_ran=True)
