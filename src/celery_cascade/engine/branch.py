"""A session that begins in the middle of another: which steps stay as they ended, and what follows from them. Pure."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from celery_cascade.definition.plan import Plan
from celery_cascade.engine.advance import prepare, reads
from celery_cascade.engine.decision import Facts, Fail, Queue, Skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """How a session stands that begins with some of its steps ended.

    Attributes:
        queue: steps that are ready, with their calls rendered; joins all of whose needs have ended among them.
        skip: steps that will not run, skips of skips included.
        fail: steps that are ready and cannot be called.
        waits: join -> how many of its needs have not ended.
    """

    queue: tuple[Queue, ...] = ()
    skip: tuple[Skip, ...] = ()
    fail: tuple[Fail, ...] = ()
    waits: Mapping[str, int] = field(default_factory=dict)


def keep(plan: Plan, ended: Collection[str], at: Collection[str] = ()) -> tuple[str, ...]:
    """The steps that stay as they ended: all of whose needs stay, too; in an order in which they may have run.

    Args:
        plan: of the session that begins; steps that it does not have are left out.
        ended: the steps that ended well in the other one, succeeded or skipped.
        at: these run again, and with them all that depends on them.
    """
    order = _Order(plan)
    kept = []
    for step_id in order:
        if step_id in ended and step_id not in at:
            kept.append(step_id)
            order.ended(step_id)
    return tuple(kept)


def branch(plan: Plan, facts: Facts, kept: Mapping[str, bool]) -> Branch:
    """What is ready, skipped or waiting where these steps have ended.

    Args:
        plan: the cascade's graph.
        facts: of the session that begins; knows the outputs of `branch_reads(plan, kept)`.
        kept: what `keep` found -> whether it was skipped.
    """
    gone: dict[str, None] = {}
    skipped = {step_id for step_id, was_skipped in kept.items() if was_skipped}
    # What is skipped now may have an output in the other session.
    facts = replace(facts, outputs=ChainMap(gone, facts.outputs))  # type: ignore[arg-type]
    outcomes: list[Queue | Skip | Fail] = []
    order = _Order(plan)
    for step_id in order:
        if step_id not in kept:
            outcome = prepare(plan, step_id, facts, skipped)
            outcomes.append(outcome)
            if not isinstance(outcome, Skip):
                continue
            skipped.add(step_id)
            gone[step_id] = None
        order.ended(step_id)
    return Branch(
        queue=tuple(outcome for outcome in outcomes if isinstance(outcome, Queue)),
        skip=tuple(outcome for outcome in outcomes if isinstance(outcome, Skip)),
        fail=tuple(outcome for outcome in outcomes if isinstance(outcome, Fail)),
        waits={join: order.left[join] for join in plan.joins if order.left[join]},
    )


def branch_reads(plan: Plan, kept: Collection[str]) -> frozenset[str]:
    """The kept steps whose outputs `branch` may look up."""
    named: set[str] = set()
    for step_id in plan.steps:
        if step_id not in kept:
            named |= reads(plan, step_id)
    return frozenset(named.intersection(kept))


class _Order:
    """Steps one after the other, each once all its needs are said to have ended."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ready = list(plan.roots)
        self.left: dict[str, int] = {step.id: len(step.needs) for step in plan.steps.values()}

    def __iter__(self) -> Iterator[str]:
        yield from self._ready  # it grows as it is read

    def ended(self, step_id: str) -> None:
        """Whatever waits for this step no longer does."""
        for follower in self._plan.dependents[step_id]:
            self.left[follower] -= 1
            if not self.left[follower]:
                self._ready.append(follower)
