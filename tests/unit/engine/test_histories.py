"""Random cascades, random orders of events: a model of the store carries out what the engine decides.

The model does what the SQL does and no more: rows that are inserted when they are needed, `needs_left` counters,
`open_steps`, one gate a row. What each step should come to is worked out without the engine, by `expected`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from celery_cascade.definition.cascade import Cascade, Step
from celery_cascade.definition.plan import Plan, make_plan
from celery_cascade.engine.advance import advance, output_reads, prepare, reads, reads_after, session_output
from celery_cascade.engine.decision import Call, Decision, Ended, Facts, Fail, Queue, Skip, Started
from celery_cascade.states import StepStatus

MAX_STEPS = 25
INPUTS: dict[str, Any] = {"yes": True, "no": ""}
REPAIRED = {"missing": "found"}  #: the input that a broken template asks for

# --- cascades to try -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A cascade and what the bodies of its steps do.

    Args:
        ignored: their bodies raise Ignore: they end as skipped.
        failing: their bodies fail until somebody repairs them.
        broken: their calls cannot be rendered until then.
    """

    plan: Plan
    ignored: frozenset[str] = frozenset()
    failing: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Draft:
    """What is random about a step; numbers count backwards or around, so that any numbers make a cascade."""

    back: list[int]  #: needs: how many steps before this one
    when: str | bool | None
    named: list[int]  #: which of the steps above it its arguments name
    in_kwargs: bool
    kind: str


def drafts(kinds: list[str]) -> st.SearchStrategy[Draft]:
    whens: list[str | bool | None] = [None] * 8
    whens += [True, False, "{{ inputs.yes }}", "{{ inputs.no }}", "== none", "!= none", "!= none"]
    return st.builds(
        Draft,
        back=st.lists(st.integers(1, 5), unique=True, max_size=3),  # near ones make chains, far ones long waits
        when=st.sampled_from(whens),
        named=st.lists(st.integers(0, MAX_STEPS), max_size=3),
        in_kwargs=st.booleans(),
        kind=st.sampled_from(kinds),
    )


def case_of(drawn: list[Draft], output: list[int] | None) -> Case:
    steps: list[Step] = []
    above: list[list[str]] = []
    for number, draft in enumerate(drawn):
        needs = [number - back for back in draft.back if back <= number]
        above.append(sorted({f"s{need}" for need in needs}.union(*(above[need] for need in needs))))
        visible = above[number]
        when = draft.when
        if when in ("== none", "!= none"):
            when = f"{{{{ outputs.{visible[-1]} {when} }}}}" if visible else None
        got = [f"{{{{ outputs.{visible[one % len(visible)]} }}}}" for one in draft.named if visible]
        if draft.kind == "broken":
            got.append("{{ inputs.missing }}")
        steps.append(
            Step(
                id=f"s{number}",
                task="tasks.body",
                needs=tuple(f"s{need}" for need in needs),
                when=when,
                arguments={"got": got} if draft.in_kwargs else tuple(got),
            )
        )
    named = {steps[one % len(steps)].id for one in output or ()}
    cascade = Cascade(
        id="random",
        steps=tuple(steps),
        output={name: f"{{{{ outputs.{name} }}}}" for name in sorted(named)},
        has_output=output is not None,
    )
    of_kind = {
        kind: frozenset(step.id for step, draft in zip(steps, drawn, strict=True) if draft.kind == kind)
        for kind in ("ignored", "failing", "broken")
    }
    return Case(make_plan(cascade), **of_kind)


def cases(*faults: str) -> st.SearchStrategy[Case]:
    one = drafts(["plain"] * 8 + ["ignored", *faults])
    several = st.integers(1, MAX_STEPS).flatmap(lambda count: st.lists(one, min_size=count, max_size=count))
    return st.builds(case_of, several, st.none() | st.lists(st.integers(0, MAX_STEPS), max_size=3))


def holds(when: str | bool | None, outputs: Mapping[str, Any]) -> bool:
    match when:
        case None | True | "{{ inputs.yes }}":
            return True
        case False | "{{ inputs.no }}":
            return False
        case _:
            _, named, operator, *_ = when.split()
            absent = outputs[named.removeprefix("outputs.")] is None
            return absent if operator == "==" else not absent


def body(step_id: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """What a step gives: different for every call, and null now and then."""
    digest = hashlib.sha256(repr((step_id, args, dict(kwargs))).encode()).hexdigest()[:8]
    return None if int(digest, 16) % 5 == 0 else digest


# --- what each step should come to, without the engine ---------------------------------------------------------


@dataclass(frozen=True)
class End:
    status: StepStatus
    reason: str | None = None
    output: Any = None


def expected(case: Case) -> dict[str, End]:
    """The end of every step when nothing fails (any more): one look at each, in the order of the file."""
    ends: dict[str, End] = {}
    outputs: dict[str, Any] = {}
    for step in case.plan.cascade.steps:
        if step.needs and all(ends[need].status is StepStatus.SKIPPED for need in step.needs):
            end = End(StepStatus.SKIPPED, "needs")
        elif not holds(step.when, outputs):
            end = End(StepStatus.SKIPPED, "when")
        elif step.id in case.ignored:
            end = End(StepStatus.SKIPPED, "ignored")
        else:
            listed = step.arguments["got"] if isinstance(step.arguments, Mapping) else step.arguments
            got = [REPAIRED["missing"] if "missing" in one else outputs[one[11:-3]] for one in listed]
            in_kwargs = isinstance(step.arguments, Mapping)
            end = End(
                StepStatus.SUCCEEDED,
                None,
                body(step.id, () if in_kwargs else tuple(got), {"got": got} if in_kwargs else {}),
            )
        ends[step.id], outputs[step.id] = end, end.output
    return ends


def expected_output(case: Case) -> Any:
    outputs = {name: end.output for name, end in expected(case).items()}
    cascade = case.plan.cascade
    if cascade.has_output:
        return {name: outputs[name] for name in cascade.output}
    last = [step.id for step in cascade.steps if not any(step.id in other.needs for other in cascade.steps)]
    return outputs[last[0]] if len(last) == 1 else {name: outputs[name] for name in last}


# --- the model of the store ------------------------------------------------------------------------------------


@dataclass
class Row:
    status: StepStatus
    needs_left: int = 0
    call: Call | None = None
    output: Any = None
    reason: str | None = None
    token: int | None = None


class Loaded(Mapping[str, Any]):
    """Outputs as a store loads them: what was announced and no more."""

    def __init__(self, rows: Mapping[str, Row], announced: frozenset[str]) -> None:
        self._rows = rows
        self._announced = announced

    def __getitem__(self, key: str) -> Any:
        assert key in self._announced, f"{key} was not announced by reads() or reads_after()"
        row = self._rows[key]
        assert row.status in (StepStatus.SUCCEEDED, StepStatus.SKIPPED), f"{key} is read while it is {row.status}"
        return row.output

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all outputs were asked for")

    def __len__(self) -> int:
        raise AssertionError("all outputs were counted")


@dataclass
class Store:
    case: Case
    rows: dict[str, Row] = field(default_factory=dict)
    open_steps: int = 0
    halted: bool = False
    repaired: bool = False
    messages: list[str] = field(default_factory=list)  #: every message ever sent; each may come at any time, again
    tokens: list[tuple[str, int]] = field(default_factory=list)  #: every claim ever given; each may report, again
    ran: Counter[str] = field(default_factory=Counter)  #: bodies that ended well

    @property
    def plan(self) -> Plan:
        return self.case.plan

    def facts(self, announced: frozenset[str]) -> Facts:
        inputs = INPUTS | (REPAIRED if self.repaired else {})
        return Facts(session_id="s-1", inputs=inputs, outputs=Loaded(self.rows, announced))

    def start(self) -> None:
        self.open_steps = len(self.plan.steps)
        for join in self.plan.joins:
            self._insert(join, Row(StepStatus.PENDING, needs_left=len(self.plan.steps[join].needs)))
        self._apply(advance(self.plan, self.facts(reads_after(self.plan, Started())), Started()))

    def claim(self, name: str) -> None:
        """A message arrives."""
        row = self.rows[name]
        if row.status is not StepStatus.QUEUED:
            return  # a double
        if self.halted:
            row.status = StepStatus.PENDING
            return
        if row.call is None:
            skipped = [need for need in self.plan.steps[name].needs if self.rows[need].status is StepStatus.SKIPPED]
            match prepare(self.plan, name, self.facts(reads(self.plan, name)), skipped):
                case Queue(step=step, call=call):
                    assert step == name
                    row.call = call
                case Skip(step=step, reason=reason):
                    assert step == name
                    self._end(name, Ended(name, skipped=True), reason)
                    return
                case Fail(step=step):
                    assert step == name
                    self._fail(name)
                    return
        self._may_run(name)
        row.status = StepStatus.RUNNING
        row.token = len(self.tokens)
        self.tokens.append((name, row.token))

    def report(self, name: str, token: int) -> None:
        """The body of a claimed step comes to its end, or a zombie of it does."""
        row = self.rows[name]
        if row.status is not StepStatus.RUNNING or row.token != token:
            return  # ClaimLost
        if name in self.case.failing and not self.repaired:
            self._fail(name)
        elif name in self.case.ignored:
            self._end(name, Ended(name, skipped=True), "ignored")
        else:
            assert row.call is not None
            self.ran[name] += 1
            self._end(name, Ended(name, body(name, row.call.args, row.call.kwargs)), None)

    def resume(self) -> None:
        """Of a failed session: what failed and what was parked is queued again."""
        self.halted, self.repaired = False, True
        for name, row in self.rows.items():
            if row.status is StepStatus.FAILED:
                self.open_steps += 1
                self._queue(name)
            elif row.status is StepStatus.PENDING and row.needs_left == 0:
                self._queue(name)

    def _may_run(self, name: str) -> None:
        for need in self.plan.steps[name].needs:
            status = self.rows[need].status
            assert status in (StepStatus.SUCCEEDED, StepStatus.SKIPPED), f"{name} runs while {need} is {status}"

    def _end(self, name: str, ended: Ended, reason: str | None) -> None:
        """The checkpoint: one transaction."""
        row = self.rows[name]
        row.status = StepStatus.SKIPPED if ended.skipped else StepStatus.SUCCEEDED
        row.output, row.reason = ended.output, reason
        self.open_steps -= 1
        announced = reads_after(self.plan, ended)
        assert name not in announced
        self._apply(advance(self.plan, self.facts(announced), ended))

    def _fail(self, name: str) -> None:
        self.rows[name].status = StepStatus.FAILED
        self.open_steps -= 1
        self.halted = True

    def _apply(self, decision: Decision) -> None:
        self.open_steps -= len(decision.skip)
        for failed in decision.fail:  # a row without a call: it fails at its own claim
            self._insert(failed.step, Row(StepStatus.PENDING))
            self._queue(failed.step)
        for skipped in decision.skip:
            self._insert(skipped.step, Row(StepStatus.SKIPPED, reason=skipped.reason))
        for ready in decision.queue:
            self._insert(ready.step, Row(StepStatus.PENDING, call=ready.call))
            self._queue(ready.step)
        for join, count in decision.arrive.items():
            row = self.rows[join]
            assert row.status is StepStatus.PENDING, f"an arrival at {join}, which is {row.status}"
            row.needs_left -= count
            assert row.needs_left >= 0, f"{join} heard more arrivals than it has needs"
            if row.needs_left == 0:
                self._queue(join)
        assert self.open_steps >= 0

    def _insert(self, name: str, row: Row) -> None:
        assert name not in self.rows, f"{name} was decided twice"
        self.rows[name] = row

    def _queue(self, name: str) -> None:
        """Nothing new is queued while the session halts: the row is parked as `pending`."""
        if not self.halted:
            self.rows[name].status = StepStatus.QUEUED
            self.messages.append(name)

    def ends(self) -> dict[str, End]:
        return {name: End(row.status, row.reason, row.output) for name, row in self.rows.items() if row.status.final}

    def output(self) -> Any:
        return session_output(self.plan, self.facts(output_reads(self.plan)))


def play(store: Store, order: Random) -> None:
    """Let things happen in some order until nothing is left to happen, with doubles and zombies in between."""
    noise = 12
    while True:
        moves: list[Callable[[], None]] = []
        for name, row in store.rows.items():
            if row.status is StepStatus.QUEUED:
                moves.append(partial(store.claim, name))
            elif row.status is StepStatus.RUNNING and row.token is not None:
                moves.append(partial(store.report, name, row.token))
        if not moves:
            return
        if noise and order.random() < 0.2:
            noise -= 1
            if store.tokens and order.random() < 0.5:
                store.report(*order.choice(store.tokens))
            else:
                store.claim(order.choice(store.messages))
        else:
            order.choice(moves)()


def played(case: Case, seed: int) -> Store:
    store = Store(case)
    store.start()
    play(store, Random(seed))
    return store


def resumed(store: Store, seed: int) -> Store:
    if store.halted:
        store.resume()
        play(store, Random(seed))
    return store


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
    store = resumed(played(case, seed), seed)

    assert all(count == 1 for count in store.ran.values())
    assert set(store.ran) == {name for name, row in store.rows.items() if row.status is StepStatus.SUCCEEDED}


@thorough
@given(case=cases("failing", "broken"), seed=seeds)
def test_nothing_that_depends_on_a_failed_step_runs_and_what_runs_ends(case: Case, seed: int) -> None:
    store = played(case, seed)
    failed = {name for name, row in store.rows.items() if row.status is StepStatus.FAILED}
    event("failed" if failed else "went well")

    assert store.halted is bool(failed)
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
    store = resumed(played(case, seed), seed)

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
