"""Random cascades, random orders of events: a model of the store carries out what the engine decides.

The cascades, what each step should come to without the engine, and the model are those of tests/simulation, which adds
workers that die. Here Hypothesis looks for the smallest cascade that goes wrong.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

from hypothesis import event, given, settings
from hypothesis import strategies as st

from celery_cascade.engine.advance import advance, reads_after
from celery_cascade.engine.decision import Ended, Facts, Fail, Queue, Skip, Started
from celery_cascade.states import StepStatus
from simulation.cases import INPUTS, MAX_STEPS, WHENS, Case, Draft, body, case_of, expected, expected_output
from simulation.model import Lost, Store

# --- cascades to try -----------------------------------------------------------------------------------------


def drafts(kinds: list[str]) -> st.SearchStrategy[Draft]:
    return st.builds(
        Draft,
        back=st.lists(st.integers(1, 5), unique=True, max_size=3),  # near ones make chains, far ones long waits
        when=st.sampled_from(WHENS),
        named=st.lists(st.integers(0, MAX_STEPS), max_size=3),
        in_kwargs=st.booleans(),
        kind=st.sampled_from(kinds),
    )


def cases(*faults: str) -> st.SearchStrategy[Case]:
    one = drafts(["plain"] * 8 + ["ignored", *faults])
    several = st.integers(1, MAX_STEPS).flatmap(lambda count: st.lists(one, min_size=count, max_size=count))
    return st.builds(case_of, several, st.none() | st.lists(st.integers(0, MAX_STEPS), max_size=3))


# --- a history without crashes -----------------------------------------------------------------------------------


class History:
    """One session; messages and reports come in any order, some of them twice."""

    def __init__(self, case: Case) -> None:
        self.case, self.store = case, Store(case)
        self.messages: list[str] = []  #: every message ever sent; each may come at any time, again
        self.ran: Counter[str] = Counter()  #: bodies that ended well
        announced = reads_after(case.plan, Started())
        self.messages += self.store.start(advance(case.plan, self.store.facts(announced), Started()))

    def claim(self, name: str) -> None:
        """A message arrives."""
        row = self.store.rows[name]
        token = len(self.store.tokens)
        if not self.store.claim(name, row.attempt, token, None) or row.call is not None:
            return
        match self.store.prepared(name):
            case Queue(call=call):
                row.call = call
            case Skip(reason=reason):
                self._end(name, token, Ended(name, skipped=True), reason)
            case Fail():
                self.store.setback(name, token, delay=None, failures=1)

    def report(self, name: str, token: int) -> None:
        """The body of a claimed step comes to its end, or a zombie of it does."""
        row = self.store.rows[name]
        try:
            if name in self.case.failing and not self.store.repaired:
                self.store.setback(name, token, delay=None, failures=1)
            elif name in self.case.ignored:
                self._end(name, token, Ended(name, skipped=True), "ignored")
            elif row.status is StepStatus.RUNNING and row.token == token:
                assert row.call is not None
                self.ran[name] += 1
                self._end(name, token, Ended(name, body(name, row.call.args, row.call.kwargs)), None)
        except Lost:
            pass

    def _end(self, name: str, token: int, ended: Ended, reason: str | None) -> None:
        row = self.store.rows[name]
        if row.status is not StepStatus.RUNNING or row.token != token:
            return
        announced = reads_after(self.case.plan, ended)
        assert name not in announced
        decision = advance(self.case.plan, self.store.facts(announced), ended)
        self.messages += self.store.checkpoint(name, token, decision, output=ended.output, reason=reason)

    def play(self, order: Random) -> None:
        """Let things happen in some order until nothing is left to happen, with doubles and zombies in between."""
        noise = 12
        while True:
            moves: list[Callable[[], None]] = []
            for name, row in self.store.rows.items():
                if row.status is StepStatus.QUEUED:
                    moves.append(partial(self.claim, name))
                elif row.status is StepStatus.RUNNING and row.token is not None:
                    moves.append(partial(self.report, name, row.token))
            if not moves:
                self.store.settle()
                return
            if noise and order.random() < 0.2:
                noise -= 1
                if self.store.tokens and order.random() < 0.5:
                    token = order.choice(list(self.store.tokens))
                    self.report(self.store.tokens[token][0], token)
                else:
                    self.claim(order.choice(self.messages))
            else:
                order.choice(moves)()


def played(case: Case, seed: int) -> Store:
    history = History(case)
    history.play(Random(seed))
    return history.store


def resumed(case: Case, seed: int) -> History:
    """Played; and if it failed, repaired, resumed and played on."""
    history = History(case)
    history.play(Random(seed))
    if history.store.status == "failed":
        history.store.repaired = True
        history.messages += [name for name, _ in history.store.revive()]
        history.play(Random(seed))
    return history


# --- properties ------------------------------------------------------------------------------------------------

thorough = settings(max_examples=200, deadline=None)
seeds = st.integers(0, 2**32 - 1)  #: of an order of events


@thorough
@given(case=cases(), seed=seeds)
def test_every_history_ends_with_no_step_open(case: Case, seed: int) -> None:
    """Nothing hangs and nothing is counted twice, whatever the order and the doubles."""
    store = played(case, seed)

    assert store.open_steps == 0
    assert set(store.rows) == set(case.plan.steps)
    assert all(row.status.final and row.needs_left == 0 for row in store.rows.values())


@thorough
@given(case=cases(), seed=seeds)
def test_every_history_comes_to_the_same_ends_and_the_same_output(case: Case, seed: int) -> None:
    """D3: which steps ran, which were skipped and why, and what each gave, do not depend on the order of events.

    That a step with all its needs skipped is skipped, and one with some of them not, is part of `expected`.
    """
    store = played(case, seed)

    ends = expected(case)
    event(f"skipped: {sum(end.status is StepStatus.SKIPPED for end in ends.values()) * 4 // len(ends)}/4")
    assert store.ends() == ends
    assert store.output() == expected_output(case)


@thorough
@given(case=cases(), first=seeds, second=seeds)
def test_two_histories_of_one_cascade_agree(case: Case, first: int, second: int) -> None:
    """The same property without the help of `expected`."""
    one, other = played(case, first), played(case, second)

    assert one.ends() == other.ends()
    assert one.output() == other.output()


@thorough
@given(case=cases("failing", "broken"), seed=seeds)
def test_no_body_runs_twice_nor_before_its_needs_have_ended(case: Case, seed: int) -> None:
    """D11: a checkpointed step never runs again; `Store.claim` looks at the needs of each that runs."""
    history = resumed(case, seed)
    store = history.store

    assert all(count == 1 for count in history.ran.values())
    assert set(history.ran) == {name for name, row in store.rows.items() if row.status is StepStatus.SUCCEEDED}


@thorough
@given(case=cases("failing", "broken"), seed=seeds)
def test_nothing_that_depends_on_a_failed_step_runs_and_what_runs_ends(case: Case, seed: int) -> None:
    store = played(case, seed)
    failed = {name for name, row in store.rows.items() if row.status is StepStatus.FAILED}
    event("failed" if failed else "went well")

    assert (store.status == "failed") is bool(failed)
    for name, row in store.rows.items():
        assert row.status not in (StepStatus.QUEUED, StepStatus.RUNNING)
        if case.plan.ancestors[name] & failed:
            assert row.status is StepStatus.PENDING, f"{name} is {row.status} behind a failed step"
    ends = expected(case)
    well = {name: end for name, end in store.ends().items() if end.status is not StepStatus.FAILED}
    assert well == {name: ends[name] for name in well}
    assert store.open_steps == len(case.plan.steps) - len(store.ends())


@thorough
@given(case=cases("failing", "broken"), seed=seeds)
def test_a_failed_session_that_is_repaired_and_resumed_ends_as_if_nothing_had_failed(case: Case, seed: int) -> None:
    store = resumed(case, seed).store

    assert store.open_steps == 0
    assert store.ends() == expected(case)
    assert store.output() == expected_output(case)


@thorough
@given(case=cases("failing", "broken"), number=st.integers(0, MAX_STEPS))
def test_an_event_is_decided_the_same_way_each_time(case: Case, number: int) -> None:
    """A transaction that is tried again after a deadlock asks again and must get the same answer."""
    plan = case.plan
    name = list(plan.steps)[number % len(plan.steps)]
    outputs = {other: end.output for other, end in expected(case).items()}
    facts = Facts(session_id="s-1", inputs=INPUTS, outputs=outputs)
    for ended in (Ended(name, outputs[name]), Ended(name, skipped=True), Started()):
        once, again = advance(plan, facts, ended), advance(plan, facts, ended)

        assert (once.queue, once.skip, once.arrive) == (again.queue, again.skip, again.arrive)
        assert [fail.step for fail in once.fail] == [fail.step for fail in again.fail]
