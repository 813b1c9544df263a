"""Random cascades, what the bodies of their steps do, and what each step should come to: without the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from celery_cascade.definition.cascade import Cascade, RetryPolicy, Step
from celery_cascade.definition.plan import Plan, make_plan
from celery_cascade.states import StepStatus

MAX_STEPS = 25
INPUTS: dict[str, Any] = {"yes": True, "no": ""}
REPAIRED = {"missing": "found"}  #: the input that a broken template asks for
WHENS: list[str | bool | None] = [
    *[None] * 8, True, False, "{{ inputs.yes }}", "{{ inputs.no }}", "== none", "!= none", "!= none",
]  # fmt: skip
#: Failures and retries that a flaky or a patient step needs before it ends well, within the budget of its policy.
FLAKES = 2
POLICY = RetryPolicy(max_attempts=FLAKES + 1, delay=1.0)


@dataclass(frozen=True)
class Case:
    """A cascade and what the bodies of its steps do.

    Args:
        ignored: their bodies raise Ignore: they end as skipped.
        failing: their bodies fail until somebody repairs them.
        broken: their calls cannot be rendered until then.
        flaky: their bodies fail some times, and their policy tries them again.
        patient: their bodies ask for a retry some times.
    """

    plan: Plan
    ignored: frozenset[str] = frozenset()
    failing: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()
    flaky: frozenset[str] = frozenset()
    patient: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Draft:
    """What is random about a step; numbers count backwards or around, so that any numbers make a cascade."""

    back: list[int]  #: needs: how many steps before this one
    when: str | bool | None
    named: list[int]  #: which of the steps above it its arguments name
    in_kwargs: bool
    kind: str


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
                retry=POLICY if draft.kind == "flaky" else RetryPolicy(),
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
        for kind in ("ignored", "failing", "broken", "flaky", "patient")
    }
    return Case(make_plan(cascade), **of_kind)


def draft_of(random: Random, kinds: list[str]) -> Draft:
    return Draft(
        back=sorted({random.randint(1, 5) for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3)))}),
        when=random.choice(WHENS),
        named=[random.randint(0, MAX_STEPS) for _ in range(random.choice((0, 1, 1, 2)))],
        in_kwargs=random.random() < 0.5,
        kind=random.choice(kinds),
    )


KINDS = [*["plain"] * 10, "ignored", "flaky", "flaky", "patient", "failing"]


@lru_cache(maxsize=20_000)
def random_case(number: int, dropped: frozenset[int] = frozenset(), *, most: int = 12, broken: bool = True) -> Case:
    """The cascade of a seed.

    Args:
        dropped: numbers of steps to leave out, to make a failing history smaller.
        most: steps.
        broken: whether some templates may be broken.
    """
    random = Random(number)
    count = random.randint(1, random.choice((4, 8, most)))
    kinds = [*KINDS, "broken"] if broken else KINDS
    drawn = [draft_of(random, kinds) for _ in range(count)]
    output = random.choice((None, None, [random.randint(0, MAX_STEPS) for _ in range(2)]))
    left = [draft for number, draft in enumerate(drawn) if number not in dropped]
    return case_of(left or drawn[:1], output)


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
