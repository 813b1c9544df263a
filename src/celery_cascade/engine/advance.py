"""What follows when a session starts or a step ends, and what a join does at its claim. Pure.

A step with one need is decided by the event that ends that need. A step with several needs, a join, only hears
that a need arrived: who was last is known to SQL alone (DESIGN.md, rule 5), so a join is decided at its claim,
by `prepare`.

A skip has successors too, but never one that reads anything: what needs only a skipped step is skipped without
a look at its `when`. So one event renders the templates of the ended step's own dependents and no others.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, assert_never

from celery_cascade.definition.cascade import Shape, SignatureCall, Step, steps_in
from celery_cascade.definition.plan import Plan
from celery_cascade.definition.templates import names_of, render
from celery_cascade.engine.decision import Call, Decision, Ended, Event, Facts, Fail, Queue, Skip, Started
from celery_cascade.errors import TemplateError


def advance(plan: Plan, facts: Facts, event: Event) -> Decision:
    """Everything that `event` decides, skips of skips included; costs what the dependents cost.

    A step that fails here ends nothing: its dependents hear no arrival.
    """
    outcomes: list[Queue | Skip | Fail] = []
    skipped: list[str] = []
    arrive: Counter[str] = Counter()
    match event:
        case Started():
            outcomes += [_decide(plan.steps[root], facts) for root in plan.roots]
        case Ended(skipped=True):
            skipped.append(event.step)
        case Ended():
            outcomes += [_decide(plan.steps[one], facts, event) for one in _followers(plan, event.step, arrive)]
        case _:
            assert_never(event)
    skipped += [outcome.step for outcome in outcomes if isinstance(outcome, Skip)]
    for gone in skipped:  # grows as it is read: skips of skips, without recursion
        followers = _followers(plan, gone, arrive)
        outcomes += [Skip(step_id, "needs") for step_id in followers]
        skipped += followers
    return Decision(
        queue=tuple(outcome for outcome in outcomes if isinstance(outcome, Queue)),
        skip=tuple(outcome for outcome in outcomes if isinstance(outcome, Skip)),
        fail=tuple(outcome for outcome in outcomes if isinstance(outcome, Fail)),
        arrive=dict(arrive),
    )


def prepare(plan: Plan, step_id: str, facts: Facts, skipped_needs: Collection[str]) -> Queue | Skip | Fail:
    """What a step without a stored call does at its claim: a join, or one that could not be rendered before.

    Args:
        plan: the cascade's graph.
        step_id: the step; all its needs have ended.
        facts: knows the outputs of `reads(plan, step_id)`.
        skipped_needs: those of its needs that were skipped; other ids do no harm.
    """
    step = plan.steps[step_id]
    if step.needs and frozenset(step.needs).issubset(skipped_needs):
        return Skip(step_id, "needs")
    return _decide(step, facts)


def session_output(plan: Plan, facts: Facts) -> Any:
    """The output of a session all of whose steps have ended; `facts` knows `output_reads(plan)`.

    Raises:
        TemplateError: `output:` does not render.
    """
    if plan.cascade.returns is not None:
        return _shaped(plan.cascade.returns, facts.outputs)
    if plan.cascade.has_output:
        return _rendered(plan.cascade.output, facts, where="output")
    if len(plan.leaves) == 1:
        return facts.outputs[plan.leaves[0]]
    return {leaf: facts.outputs[leaf] for leaf in plan.leaves}


def reads(plan: Plan, step_id: str) -> frozenset[str]:
    """The steps whose outputs may be looked up when this step is decided: those its templates name."""
    step = plan.steps[step_id]
    if step.call is not None:
        return frozenset(steps_in(step.call.fed))
    return names_of(step.when) | names_of(step.arguments)


def reads_after(plan: Plan, event: Event) -> frozenset[str]:
    """The steps whose outputs `advance` may look up for this event; the ended step's own is in the event."""
    match event:
        case Started():
            return frozenset().union(*(reads(plan, root) for root in plan.roots))
        case Ended(skipped=True):
            return frozenset()
        case Ended():
            return frozenset().union(*(reads(plan, one) for one in _followers(plan, event.step))) - {event.step}
        case _:
            assert_never(event)


def output_reads(plan: Plan) -> frozenset[str]:
    """The steps whose outputs `session_output` looks up."""
    if plan.cascade.returns is not None:
        return frozenset(steps_in(plan.cascade.returns))
    return names_of(plan.cascade.output) if plan.cascade.has_output else frozenset(plan.leaves)


def _followers(plan: Plan, ended: str, arrive: Counter[str] | None = None) -> list[str]:
    """The dependents that nothing but `ended` holds back; the others, joins, get an arrival each."""
    alone = []
    for step_id in plan.dependents[ended]:
        if len(plan.steps[step_id].needs) == 1:
            alone.append(step_id)
        elif arrive is not None:
            arrive[step_id] += 1
    return alone


def _decide(step: Step, facts: Facts, ended: Ended | None = None) -> Queue | Skip | Fail:
    """Queue the step with its call rendered, skip it for its `when`, or fail it for a template."""
    if step.call is not None:
        return Queue(step.id, _signature_call(step.id, step.call, facts, ended))
    try:
        if step.when is not None and not _rendered(step.when, facts, ended, where=f"steps.{step.id}.when"):
            return Skip(step.id, "when")
        arguments = _rendered(step.arguments, facts, ended, where=f"steps.{step.id}.with")
    except TemplateError as error:
        return Fail(step.id, error)
    if isinstance(step.arguments, Mapping):
        return Queue(step.id, Call(kwargs=arguments))
    return Queue(step.id, Call(args=tuple(arguments)))


def _signature_call(step_id: str, call: SignatureCall, facts: Facts, ended: Ended | None) -> Call:
    """The arguments that the canvas was sent with, after what it is fed with."""
    given = facts.inputs[step_id]
    args = tuple(given["args"])
    if call.fed is not None:
        known = facts.outputs if ended is None else ChainMap({ended.step: ended.output}, facts.outputs)  # type: ignore[arg-type]
        args = (_shaped(call.fed, known), *args)
    return Call(args=args, kwargs=given["kwargs"])


def _shaped(shape: Shape, outputs: Mapping[str, Any]) -> Any:
    if isinstance(shape, str):
        return outputs[shape]
    return [_shaped(part, outputs) for part in shape]


def _rendered(value: Any, facts: Facts, ended: Ended | None = None, *, where: str) -> Any:
    """`value` with its templates replaced.

    Outputs are looked up before anything is rendered: a store that does not answer here is no fault of the
    template, so its error reaches the caller, who tries again. Whatever goes wrong while rendering is the
    template's fault, and must not stand in the way of the checkpoint that asked.
    """
    context = _context(value, facts, ended)
    try:
        return render(value, context, where=where)
    except TemplateError:
        raise
    except Exception as error:
        raise TemplateError(f"{where}: {str(error) or type(error).__name__}") from error


def _context(value: Any, facts: Facts, ended: Ended | None) -> dict[str, Any]:
    """What the templates in `value` see: plain data, with the outputs that they name and no others."""
    outputs = {}
    for step_id in names_of(value):
        if ended is not None and step_id == ended.step:
            outputs[step_id] = ended.output
            continue
        with suppress(KeyError):  # the template itself says what it misses
            outputs[step_id] = facts.outputs[step_id]
    return {"inputs": facts.inputs, "outputs": outputs, "session": {"id": facts.session_id}}
