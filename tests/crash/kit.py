"""What the tests of the enumeration share: do these runs, and fail with the command that repeats one."""

from __future__ import annotations

from crash.checks import Violation
from crash.plans import Plan, Trial, command
from crash.runs import Combination
from crash.scenarios import Scenario

#: Of a hundred crashes so many may not come about: which of two steps is second is for the machine to say.
FEW = 5


def hold(trial: Trial, on: Combination, scenario: Scenario, plans: list[Plan], few: int = FEW) -> None:
    """Do the runs; every promise must hold in each."""
    broken = [
        f"{plan}: {came}\nagain: {command(on, scenario, plan)}"
        for plan, came in trial.run(plans)
        if isinstance(came, Violation)
    ]
    assert not broken, "\n\n".join(broken)
    assert trial.tally.not_reached <= len(plans) * few / 100 + 1
