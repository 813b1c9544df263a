"""What stays and what runs where a session begins in the middle of another: examples, and a property of any."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_cascade.definition.cascade import Cascade, Step
from celery_cascade.definition.plan import Plan, make_plan
from celery_cascade.engine.advance import advance, output_reads, prepare, session_output
from celery_cascade.engine.branch import Branch, branch, branch_reads, keep
from celery_cascade.engine.decision import Call, Decision, Ended, Facts, Fail, Queue, Skip
from celery_cascade.states import StepStatus
from simulation.cases import INPUTS, Case, body, expected, expected_output
from unit.engine.test_histories import cases


def step(step_id: str, *needs: str, **options: Any) -> Step:
    return Step(id=step_id, task=f"tasks.{step_id}", needs=needs, **options)


def plan_of(*steps: Step, **options: Any) -> Plan:
    return make_plan(Cascade(id="order", steps=steps, **options))


def facts(outputs: Mapping[str, Any] | None = None, **inputs: Any) -> Facts:
    return Facts(session_id="s-1", inputs=inputs, outputs=outputs or {})


CHAIN = plan_of(step("a"), step("b", "a", arguments=("{{ outputs.a }}",)), step("c", "b"))
#: a, then b and c beside each other, then d.
DIAMOND = plan_of(
    step("a"),
    step("b", "a"),
    step("c", "a"),
    step("d", "b", "c", arguments={"b": "{{ outputs.b }}", "c": "{{ outputs.c }}"}),
)


class TestKeep:
    def test_a_step_that_runs_again_takes_along_what_depends_on_it_and_nothing_else(self) -> None:
        """R132."""
        assert keep(CHAIN, {"a", "b", "c"}, {"b"}) == ("a",)
        assert keep(DIAMOND, {"a", "b", "c", "d"}, {"b"}) == ("a", "c")

    def test_a_step_stays_only_with_all_its_needs(self) -> None:
        """A new definition may put a step before one that has ended."""
        assert keep(DIAMOND, {"a", "c", "d"}) == ("a", "c")
        assert keep(DIAMOND, {"b", "c", "d"}) == ()

    def test_steps_that_the_plan_does_not_have_are_left_out(self) -> None:
        assert keep(CHAIN, {"a", "b", "old"}) == ("a", "b")

    def test_needs_come_first_whatever_the_order_of_the_file(self) -> None:
        assert keep(plan_of(step("c", "b"), step("b", "a"), step("a")), {"a", "b", "c"}) == ("a", "b", "c")


class TestBranch:
    def test_nothing_kept_is_a_start(self) -> None:
        found = branch(DIAMOND, facts(), {})

        assert found == Branch(queue=(Queue("a", Call()),), waits={"d": 2})

    def test_a_join_all_of_whose_needs_are_kept_is_ready_with_its_call(self) -> None:
        """R132: a fork at the join."""
        found = branch(DIAMOND, facts({"b": 1, "c": 2}), {"a": False, "b": False, "c": False})

        assert found == Branch(queue=(Queue("d", Call(kwargs={"b": 1, "c": 2})),))

    def test_a_join_some_of_whose_needs_are_kept_waits_for_the_others(self) -> None:
        found = branch(DIAMOND, facts({"c": 2}), {"a": False, "c": False})

        assert (found.queue, found.waits) == ((Queue("b", Call()),), {"d": 1})

    def test_new_inputs_may_skip_a_step_and_what_needs_nothing_else(self) -> None:
        plan = plan_of(step("a"), step("b", "a", when="{{ inputs.go }}"), step("c", "b"), step("d", "c", "a"))

        found = branch(plan, facts(go=False), {"a": False})

        assert found.skip == (Skip("b", "when"), Skip("c", "needs"))
        assert (found.queue, found.waits) == ((Queue("d", Call()),), {})

    def test_what_is_skipped_now_is_null_although_it_gave_something_in_the_origin(self) -> None:
        plan = plan_of(step("a"), step("b", "a", when=False), step("c", "a", "b", arguments=("{{ outputs.b }}",)))

        found = branch(plan, facts({"a": 1, "b": "of the origin"}), {"a": False})

        assert found.queue == (Queue("c", Call(args=(None,))),)

    def test_a_step_whose_needs_were_all_skipped_is_skipped(self) -> None:
        plan = plan_of(step("a"), step("b", "a"), step("c"), step("d", "b", "c"))

        found = branch(plan, facts(), {"a": True, "c": True})

        assert found.skip == (Skip("b", "needs"), Skip("d", "needs"))

    def test_a_step_that_cannot_be_called_is_told(self) -> None:
        (failed,) = branch(CHAIN, facts({}), {"a": False}).fail

        assert isinstance(failed, Fail)
        assert failed.step == "b"

    def test_only_outputs_of_kept_steps_are_looked_up(self) -> None:
        assert branch_reads(DIAMOND, {"a", "b"}) == {"b"}


class Rest:
    """Runs what a branch leaves to run, by the same decisions as workers do."""

    def __init__(self, case: Case, found: Branch, outputs: dict[str, Any], skipped: set[str]) -> None:
        self.case, self.outputs, self.skipped = case, outputs, skipped
        self.left = dict(found.waits)
        self.ran: set[str] = set()
        self._waiting: list[Queue] = []
        self._take(Decision(queue=found.queue, skip=found.skip))

    def _take(self, decision: Decision) -> None:
        self._waiting += decision.queue
        for skip in decision.skip:
            self.skipped.add(skip.step)
            self.outputs[skip.step] = None
        for join, count in decision.arrive.items():
            self.left[join] -= count
            if not self.left[join]:
                self._claim_join(join)

    def _facts(self) -> Facts:
        return Facts(session_id="session", inputs=INPUTS, outputs=self.outputs)

    def _claim_join(self, join: str) -> None:
        match prepare(self.case.plan, join, self._facts(), self.skipped):
            case Queue() as queue:
                self._waiting.append(queue)
            case Skip():
                self._end(join, None, skipped=True)
            case Fail(error=error):
                raise error

    def _end(self, step_id: str, output: Any, *, skipped: bool) -> None:
        self.outputs[step_id] = output
        if skipped:
            self.skipped.add(step_id)
        self._take(advance(self.case.plan, self._facts(), Ended(step_id, output, skipped=skipped)))

    def run(self) -> None:
        while self._waiting:
            queue = self._waiting.pop()
            self.ran.add(queue.step)
            ignored = queue.step in self.case.ignored
            output = None if ignored else body(queue.step, queue.call.args, queue.call.kwargs)
            self._end(queue.step, output, skipped=ignored)


@settings(max_examples=300, deadline=None)
@given(case=cases(), number=st.integers(0, 100))
def test_a_fork_with_nothing_changed_runs_the_step_and_what_depends_on_it_and_gives_the_same(
    case: Case, number: int
) -> None:
    """R132: a branch at any step of any cascade."""
    plan, ends = case.plan, expected(case)
    at = list(plan.steps)[number % len(plan.steps)]
    again = {at} | {step_id for step_id in plan.steps if at in plan.ancestors[step_id]}
    was_skipped = {step_id: end.status is StepStatus.SKIPPED for step_id, end in ends.items()}

    kept = {step_id: was_skipped[step_id] for step_id in keep(plan, ends.keys(), {at})}
    assert set(kept) == set(plan.steps) - again

    known = {step_id: ends[step_id].output for step_id in branch_reads(plan, kept)}
    found = branch(plan, Facts(session_id="session", inputs=INPUTS, outputs=known), kept)
    assert not found.fail
    rest = Rest(case, found, {step_id: ends[step_id].output for step_id in kept}, {s for s in kept if kept[s]})
    rest.run()

    assert rest.ran == {step_id for step_id in again if ends[step_id].reason in (None, "ignored")}
    assert rest.outputs == {step_id: end.output for step_id, end in ends.items()}
    assert rest.skipped == {step_id for step_id in ends if was_skipped[step_id]}
    read = {step_id: rest.outputs[step_id] for step_id in output_reads(plan)}
    given_out = session_output(plan, Facts(session_id="session", inputs=INPUTS, outputs=read))
    assert given_out == expected_output(case)
