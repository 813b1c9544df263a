"""The order of a cascade's steps: who waits for whom, worked out once per definition."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType

from celery_cascade.definition.ancestry import ancestors
from celery_cascade.definition.cascade import Cascade, Step


@dataclass(frozen=True, slots=True)
class Plan:
    """A cascade with its graph.

    Attributes:
        cascade: what it was made from.
        steps: id -> step, in the order of the file.
        dependents: id -> the ids that name it in `needs`, in the order of the file.
        roots: ids without needs; queued by the start.
        joins: ids with several needs; their rows exist from the start and count down.
        leaves: ids that nobody needs; their outputs are the session's unless `output:` says otherwise.
        ancestors: id -> every transitive need; the only outputs its templates may name.
    """

    cascade: Cascade
    steps: Mapping[str, Step]
    dependents: Mapping[str, tuple[str, ...]]
    roots: tuple[str, ...]
    joins: tuple[str, ...]
    leaves: tuple[str, ...]
    ancestors: Mapping[str, Set[str]]


def make_plan(cascade: Cascade) -> Plan:
    """Order the steps. The cascade must have been checked: known needs, no cycle."""
    steps = {step.id: step for step in cascade.steps}
    dependents: dict[str, list[str]] = {step_id: [] for step_id in steps}
    for step in cascade.steps:
        for need in step.needs:
            dependents[need].append(step.id)
    return Plan(
        cascade=cascade,
        steps=MappingProxyType(steps),
        dependents=MappingProxyType({key: tuple(value) for key, value in dependents.items()}),
        roots=tuple(step.id for step in cascade.steps if not step.needs),
        joins=tuple(step.id for step in cascade.steps if len(step.needs) > 1),
        leaves=tuple(step_id for step_id, followers in dependents.items() if not followers),
        ancestors=MappingProxyType(ancestors({step.id: step.needs for step in cascade.steps})),
    )
