"""The mutation run itself is `scripts/mutate`; here: that it can still be run, and that it sees what it should."""

from __future__ import annotations

import dataclasses

import pytest

from mutation import run
from mutation.mutations import MUTATIONS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.key)
def test_the_text_that_a_mutation_breaks_is_still_in_the_code(mutation):
    """Code that moves takes its mutation along, or the run would try nothing."""
    path = run.SOURCE / "celery_cascade" / mutation.file
    broken = run.mutated(mutation, path.read_text())
    compile(broken, str(path), "exec")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.key)
def test_the_tests_that_should_see_a_mutation_are_there(mutation):
    paths = [word for word in mutation.tests if word.startswith("tests/")]
    assert paths
    assert all((run.ROOT / path).exists() for path in paths)


@pytest.mark.slow
def test_a_mutation_is_caught_and_a_change_of_nothing_is_not():
    """R38, rule 2: the run is believed because it can say no."""
    break_it = next(m for m in MUTATIONS if m.name == "a message takes a running step over")
    quick = dataclasses.replace(break_it, tests=("tests/contract/test_store_claim.py", "-k", "claimed_once and sqlite"))
    assert "test_a_step_is_claimed_once" in run.attempt(quick).by
    assert run.attempt(dataclasses.replace(quick, new=quick.old)).by == ""
