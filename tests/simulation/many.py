"""Many histories in one test: play them, say how many there were, and fail with the command that shows one."""

from __future__ import annotations

import pytest

from simulation import __main__ as simulate
from simulation import record
from simulation.runs import chunks


def played(model: bool, histories: int, capsys: pytest.CaptureFixture[str]) -> record.Counts:
    """Their counts; none of them may have gone wrong."""
    counts, wrong = record.Counts(), []
    first = simulate.base()
    for part, failed in chunks(model, histories, first, jobs=1):
        counts.merge(part)
        wrong += failed
    with capsys.disabled():
        faults = sum(counts.faults.values())
        print(f"\n{counts.histories:,} histories, {counts.crashes:,} crashes, {faults:,} faults, seeds from {first}")
    assert not wrong, f"look at one: scripts/simulate {'--model ' if model else ''}--seed {wrong[0]}"
    assert counts.histories == histories
    return counts
