"""What an event decides, one example each; tests/unit/engine/test_histories.py has the properties."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from celery_cascade import engine
from celery_cascade.definition.cascade import Cascade, Step
from celery_cascade.definition.plan import Plan, make_plan
from celery_cascade.engine.advance import advance, output_reads, prepare, reads, reads_after, session_output
from celery_cascade.engine.decision import Call, Decision, Ended, Event, Facts, Fail, Queue, Skip, Started
from celery_cascade.errors import StoreUnavailable, TemplateError


def step(step_id: str, *needs: str, **options: Any) -> Step:
    return Step(id=step_id, task=f"tasks.{step_id}", needs=needs, **options)


def plan_of(*steps: Step, **options: Any) -> Plan:
    return make_plan(Cascade(id="order", steps=steps, **options))


def facts(outputs: Mapping[str, Any] | None = None, **inputs: Any) -> Facts:
    return Facts(session_id="s-1", inputs=inputs, outputs=outputs or {})


class Loading(Mapping[str, Any]):
    """Outputs that a store loads one by one: nobody may ask for all of them."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self._outputs = outputs
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return self._outputs[key]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all outputs were asked for")

    def __len__(self) -> int:
        raise AssertionError("all outputs were counted")


class TestStart:
    def test_every_root_is_queued_with_its_call_rendered(self) -> None:
        plan = plan_of(
            step("charge", arguments={"order": "{{ inputs.order_id }}", "note": "for {{ session.id }}"}),
            step("greet", arguments=("{{ inputs.order_id }}", "hello")),
            step("label", "charge"),
        )

        decision = advance(plan, facts(order_id=7), Started())

        assert decision == Decision(
            queue=(
                Queue("charge", Call(kwargs={"order": 7, "note": "for s-1"})),
                Queue("greet", Call(args=(7, "hello"))),
            )
        )

    def test_a_root_whose_when_is_false_is_skipped_and_so_is_what_needs_only_it(self) -> None:
        """D3: `skipped` is an end of its own."""
        plan = plan_of(step("charge", when="{{ inputs.paid }}"), step("label", "charge"), step("ship", "label"))

        decision = advance(plan, facts(paid=False), Started())

        assert decision.skip == (Skip("charge", "when"), Skip("label", "needs"), Skip("ship", "needs"))
        assert decision.queue == ()
        assert decision.closed == 3

    def test_a_root_that_cannot_be_rendered_fails_and_the_others_are_still_decided(self) -> None:
        plan = plan_of(
            step("bad", arguments={"x": "{{ inputs.missing }}"}), step("after", "bad"), step("good", when=True)
        )

        decision = advance(plan, facts(), Started())

        [fail] = decision.fail
        assert fail.step == "bad"
        assert isinstance(fail.error, TemplateError)
        assert "missing" in str(fail.error)
        assert "steps.bad.with" in str(fail.error)
        assert decision.queue == (Queue("good", Call()),)
        assert not decision.skip
        assert not decision.arrive

    def test_a_root_that_is_skipped_arrives_at_the_joins_behind_it(self) -> None:
        plan = plan_of(step("a", when=False), step("b"), step("join", "a", "b"))

        decision = advance(plan, facts(), Started())

        assert decision.arrive == {"join": 1}


class TestOneNeed:
    def test_a_dependent_is_queued_with_the_output_of_the_step_that_just_ended(self) -> None:
        """The output is in the event: the facts need not know it yet."""
        plan = plan_of(step("charge"), step("label", "charge", arguments={"code": "{{ outputs.charge.code }}"}))

        decision = advance(plan, facts(), Ended("charge", {"code": "X1"}))

        assert decision == Decision(queue=(Queue("label", Call(kwargs={"code": "X1"})),))

    def test_the_event_is_right_about_its_step_where_the_facts_are_older(self) -> None:
        plan = plan_of(step("charge"), step("label", "charge", arguments=("{{ outputs.charge }}",)))

        decision = advance(plan, facts({"charge": "old"}), Ended("charge", "new"))

        assert decision.queue == (Queue("label", Call(args=("new",))),)

    def test_an_earlier_output_is_looked_up_and_no_other_is(self) -> None:
        plan = plan_of(
            step("a"),
            step("b", "a"),
            step("c", "b"),
            step("d", "c", arguments={"x": "{{ outputs.a }}", "y": "{{ outputs.c }}"}),
        )
        outputs = Loading({"a": 1, "b": 2})
        event = Ended("c", 3)

        decision = advance(plan, Facts(session_id="s", inputs={}, outputs=outputs), event)

        assert decision.queue == (Queue("d", Call(kwargs={"x": 1, "y": 3})),)
        assert outputs.asked == {"a"} == reads_after(plan, event)

    def test_when_decides_whether_it_runs(self) -> None:
        plan = plan_of(
            step("count"),
            step("many", "count", when="{{ outputs.count > 1 }}"),
            step("few", "count", when="{{ outputs.count <= 1 }}"),
            step("after", "many"),
        )

        decision = advance(plan, facts(), Ended("count", 1))

        assert [queued.step for queued in decision.queue] == ["few"]
        assert decision.skip == (Skip("many", "when"), Skip("after", "needs"))

    def test_arguments_are_not_rendered_for_a_step_that_is_skipped(self) -> None:
        plan = plan_of(step("a"), step("b", "a", when=False, arguments={"x": "{{ inputs.missing }}"}))

        assert advance(plan, facts(), Ended("a")) == Decision(skip=(Skip("b", "when"),))

    def test_a_when_that_does_not_render_fails_the_step(self) -> None:
        plan = plan_of(step("a"), step("b", "a", when="{{ outputs.a.missing }}"))

        [fail] = advance(plan, facts(), Ended("a", {})).fail

        assert fail.step == "b"
        assert "steps.b.when" in str(fail.error)

    def test_an_empty_when_value_is_false(self) -> None:
        plan = plan_of(step("a"), step("b", "a", when="{{ outputs.a }}"))

        empties: tuple[Any, ...] = (0, "", [], {}, None, False)
        for empty in empties:
            assert advance(plan, facts(), Ended("a", empty)).skip == (Skip("b", "when"),)

    def test_what_needs_only_a_skipped_step_is_skipped_without_a_look_at_its_when(self) -> None:
        plan = plan_of(step("a"), step("b", "a", when="{{ inputs.missing }}"))

        assert advance(plan, facts(), Ended("a", skipped=True)) == Decision(skip=(Skip("b", "needs"),))

    def test_the_output_of_an_earlier_skipped_step_is_null(self) -> None:
        plan = plan_of(
            step("a"), step("b"), step("join", "a", "b"), step("end", "join", arguments=("{{ outputs.a }}",))
        )

        decision = advance(plan, facts({"a": None, "b": 2}), Ended("join", 3))

        assert decision.queue == (Queue("end", Call(args=(None,))),)

    def test_a_failing_step_gives_its_dependents_nothing(self) -> None:
        plan = plan_of(
            step("a"),
            step("bad", "a", arguments={"x": "{{ inputs.no }}"}),
            step("next", "bad"),
            step("join", "a", "bad"),
        )

        decision = advance(plan, facts(), Ended("a"))

        assert [fail.step for fail in decision.fail] == ["bad"]
        assert decision.arrive == {"join": 1}  # of `a` alone
        assert not decision.queue
        assert decision.closed == 0  # its row is queued without a call and fails at its own claim

    def test_an_output_with_template_marks_is_data_and_not_rendered_again(self) -> None:
        plan = plan_of(step("a"), step("b", "a", arguments=("{{ outputs.a }}",)))

        decision = advance(plan, facts(), Ended("a", "{{ inputs.secret }}"))

        assert decision.queue == (Queue("b", Call(args=("{{ inputs.secret }}",))),)

    def test_a_step_may_be_named_like_a_method_of_a_dictionary(self) -> None:
        plan = plan_of(step("items"), step("b", "items", arguments=("{{ outputs.items }}",)))

        assert advance(plan, facts(), Ended("items", 5)).queue == (Queue("b", Call(args=(5,))),)


class TestJoin:
    DIAMOND = plan_of(
        step("root"),
        step("left", "root"),
        step("right", "root"),
        step("join", "left", "right", arguments={"l": "{{ outputs.left }}", "r": "{{ outputs.right }}"}),
    )

    def test_a_need_that_ended_is_an_arrival_and_nothing_is_rendered(self) -> None:
        assert advance(self.DIAMOND, facts(), Ended("left", 1)) == Decision(arrive={"join": 1})

    def test_a_skipped_need_arrives_too(self) -> None:
        assert advance(self.DIAMOND, facts(), Ended("left", skipped=True)) == Decision(arrive={"join": 1})

    def test_one_event_can_give_several_arrivals_to_one_join(self) -> None:
        decision = advance(self.DIAMOND, facts(), Ended("root", skipped=True))

        assert decision == Decision(skip=(Skip("left", "needs"), Skip("right", "needs")), arrive={"join": 2})

    def test_its_claim_queues_it_with_all_outputs(self) -> None:
        outcome = prepare(self.DIAMOND, "join", facts({"left": 1, "right": 2}), ())

        assert outcome == Queue("join", Call(kwargs={"l": 1, "r": 2}))

    def test_its_claim_looks_up_what_its_templates_name_and_nothing_else(self) -> None:
        outputs = Loading({"left": 1, "right": 2, "root": 0})

        prepare(self.DIAMOND, "join", Facts(session_id="s", inputs={}, outputs=outputs), ())

        assert outputs.asked == {"left", "right"} == reads(self.DIAMOND, "join")

    def test_it_runs_when_only_some_of_its_needs_were_skipped(self) -> None:
        outcome = prepare(self.DIAMOND, "join", facts({"left": None, "right": 2}), {"left"})

        assert outcome == Queue("join", Call(kwargs={"l": None, "r": 2}))

    def test_it_is_skipped_when_all_of_its_needs_were(self) -> None:
        assert prepare(self.DIAMOND, "join", facts(), ["right", "left"]) == Skip("join", "needs")

    def test_its_claim_asks_its_when(self) -> None:
        plan = plan_of(step("a"), step("b"), step("join", "a", "b", when="{{ outputs.a == outputs.b }}"))

        assert prepare(plan, "join", facts({"a": 1, "b": 2}), ()) == Skip("join", "when")
        assert prepare(plan, "join", facts({"a": 1, "b": 1}), ()) == Queue("join", Call())

    def test_its_claim_fails_it_when_it_cannot_be_rendered(self) -> None:
        plan = plan_of(step("a"), step("b"), step("join", "a", "b", arguments=("{{ outputs.a.x }}",)))

        outcome = prepare(plan, "join", facts({"a": {}, "b": 2}), ())

        assert isinstance(outcome, Fail)
        assert isinstance(outcome.error, TemplateError)

    def test_a_root_that_could_not_be_rendered_before_is_prepared_like_a_join(self) -> None:
        """A resume of a session that failed for a template: the step has no stored call."""
        plan = plan_of(step("a", arguments=("{{ inputs.x }}",)))

        assert prepare(plan, "a", facts(x=1), ()) == Queue("a", Call(args=(1,)))


class TestSessionOutput:
    def test_one_last_step_gives_its_output(self) -> None:
        assert session_output(plan_of(step("a"), step("b", "a")), facts({"a": 1, "b": 2})) == 2

    def test_several_last_steps_give_a_mapping_with_null_for_a_skipped_one(self) -> None:
        plan = plan_of(step("a"), step("b", "a"), step("c", "a"))

        assert session_output(plan, facts({"b": 2, "c": None})) == {"b": 2, "c": None}

    def test_the_template_decides_where_there_is_one(self) -> None:
        plan = plan_of(step("a"), step("b", "a"), output={"first": "{{ outputs.a }}"}, has_output=True)

        assert session_output(plan, facts({"a": 1})) == {"first": 1}

    def test_an_output_that_is_given_as_null_is_null(self) -> None:
        assert session_output(plan_of(step("a"), output=None, has_output=True), facts({"a": 1})) is None

    def test_a_template_that_does_not_render_says_where(self) -> None:
        plan = plan_of(step("a"), output="{{ inputs.missing }}", has_output=True)

        with pytest.raises(TemplateError, match="output"):
            session_output(plan, facts({"a": 1}))

    def test_an_output_that_the_caller_forgot_to_load_is_an_error_and_not_null(self) -> None:
        with pytest.raises(KeyError, match="a"):
            session_output(plan_of(step("a")), facts())

    def test_what_it_looks_up_can_be_asked_beforehand(self) -> None:
        steps = step("a"), step("b", "a"), step("c", "a")

        assert output_reads(plan_of(*steps)) == {"b", "c"}
        assert output_reads(plan_of(*steps, output=["{{ outputs.a }}"], has_output=True)) == {"a"}
        assert output_reads(plan_of(*steps, output=None, has_output=True)) == set()


class TestReads:
    def test_a_step_reads_what_its_when_and_its_arguments_name(self) -> None:
        plan = plan_of(
            step("a"),
            step("b", "a"),
            step("c", "b"),
            step("d", "c", when="{{ outputs.a }}", arguments={"x": ["{{ outputs.c }}"], "y": "{{ inputs.b }}"}),
        )

        assert reads(plan, "d") == {"a", "c"}
        assert reads(plan, "b") == set()

    @pytest.mark.parametrize(
        ("event", "expected"),
        [
            (Started(), set()),
            (Ended("a"), set()),
            (Ended("b"), {"a"}),
            (Ended("b", skipped=True), set()),
            (Ended("c"), set()),
        ],
    )
    def test_an_event_reads_for_the_steps_that_it_decides(self, event: Event, expected: set[str]) -> None:
        """Not for joins (they are rendered at their claim), nor for what lies behind a skip (never rendered)."""
        plan = plan_of(
            step("a"),
            step("b", "a", when="{{ outputs.a }}"),
            step("c", "b", arguments=("{{ outputs.a }}", "{{ outputs.b }}")),
            step("join", "b", "c", arguments=("{{ outputs.c }}", "{{ outputs.a }}")),
        )

        assert reads_after(plan, event) == expected


class TestPurity:
    def test_an_error_of_the_store_while_outputs_load_is_not_taken_for_a_template_error(self) -> None:
        """Else a database that is away for a second would fail the session for good."""

        class Away(Loading):
            def __getitem__(self, key: str) -> Any:
                raise StoreUnavailable("the database does not answer")

        plan = plan_of(step("a"), step("b", "a"), step("c", "b", arguments=("{{ outputs.a }}",)))

        with pytest.raises(StoreUnavailable):
            advance(plan, Facts(session_id="s", inputs={}, outputs=Away({})), Ended("b"))

    def test_whatever_goes_wrong_while_rendering_fails_the_step_and_not_the_checkpoint(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else the step that has just ended could never be checkpointed, and its body would run again and again."""

        def defective(*args: Any, **options: Any) -> Any:
            raise RecursionError

        monkeypatch.setattr("celery_cascade.engine.advance.render", defective)
        plan = plan_of(step("a"), step("b", "a"))

        [fail] = advance(plan, facts(), Ended("a")).fail

        assert isinstance(fail.error, TemplateError)
        assert fail.error.message == "steps.b.with: RecursionError"
        assert isinstance(fail.error.__cause__, RecursionError)

    def test_an_output_is_loaded_once_for_each_template_that_names_it(self) -> None:
        """A store decodes it each time that it is asked."""
        asked: list[str] = []

        class Decoding(Loading):
            def __getitem__(self, key: str) -> Any:
                asked.append(key)
                return super().__getitem__(key)

        plan = plan_of(step("a"), step("b", "a"), step("c", "b", arguments=("{{ outputs.a }}", "{{ outputs.a }}")))

        advance(plan, Facts(session_id="s", inputs={}, outputs=Decoding({"a": 1})), Ended("b"))

        assert asked == ["a"]

    def test_an_event_of_another_kind_is_refused(self) -> None:
        with pytest.raises(AssertionError):
            advance(plan_of(step("a")), facts(), "started")  # type: ignore[arg-type]

    def test_the_engine_imports_no_clock_no_database_no_broker_and_no_files(self) -> None:
        allowed = {"__future__", "collections", "contextlib", "dataclasses", "typing"}
        ours = ("celery_cascade.definition", "celery_cascade.engine", "celery_cascade.errors", "celery_cascade.states")
        for path in Path(engine.__path__[0]).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                else:
                    continue
                for name in names:
                    assert name.partition(".")[0] in allowed or name.startswith(ours), f"{path.name} imports {name}"


def chain_plan(length: int, **options: Any) -> Plan:
    """A long chain without `ancestors`, which the engine does not ask for and which grow with the square."""
    names = [f"s{number}" for number in range(length)]
    steps = [step(name, *names[max(number - 1, 0) : number], **options) for number, name in enumerate(names)]
    return Plan(
        cascade=Cascade(id="chain", steps=tuple(steps)),
        steps={one.id: one for one in steps},
        dependents={name: tuple(names[number + 1 : number + 2]) for number, name in enumerate(names)},
        roots=("s0",),
        joins=(),
        leaves=(names[-1],),
        ancestors={},
    )


class TestSize:
    def test_a_chain_of_ten_thousand_skipped_steps_is_one_decision(self) -> None:
        plan = chain_plan(10_000)

        decision = advance(plan, facts(), Ended("s0", skipped=True))

        assert [skip.step for skip in decision.skip] == [f"s{number}" for number in range(1, 10_000)]
        assert decision.closed == 9_999

    def test_a_step_in_a_long_cascade_costs_what_its_dependents_cost(self) -> None:
        """Step 10,000 costs what step 10 costs: only the ended step and its dependents are looked at."""

        class Counting(Loading):
            pass

        plan = chain_plan(10_000, arguments={"x": "{{ inputs.x }}"})
        steps, dependents = Counting(plan.steps), Counting(plan.dependents)
        watched = replace(plan, steps=steps, dependents=dependents)

        advance(watched, facts(x=1), Ended("s9000"))

        assert steps.asked == {"s9001"}
        assert dependents.asked == {"s9000"}

    def test_a_join_of_ten_thousand_needs_is_prepared_at_once(self) -> None:
        names = [f"s{number}" for number in range(10_000)]
        plan = make_plan(Cascade(id="wide", steps=(*(step(name) for name in names), step("join", *names))))

        assert prepare(plan, "join", facts(), names) == Skip("join", "needs")
        assert prepare(plan, "join", facts(), names[1:]) == Queue("join", Call())


def test_what_is_decided_does_not_alter_the_facts() -> None:
    plan = plan_of(step("a"), step("b", "a", arguments={"x": "{{ outputs.a }}"}))
    outputs: Mapping[str, Any] = MappingProxyType({})

    advance(plan, facts(outputs), Ended("a", 1))

    assert outputs == {}
