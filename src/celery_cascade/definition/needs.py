"""Who waits for whom: `needs:` of each step, and no circle among them."""

from __future__ import annotations

from collections.abc import Mapping as MappingOf

from celery_cascade.definition import fields
from celery_cascade.definition.document import Document
from celery_cascade.definition.nodes import Mapping, Scalar, Sequence
from celery_cascade.words import shown, suggestion


def read_needs(
    document: Document, step: Mapping, step_id: str, before: str | None, known: MappingOf[str, Mapping]
) -> tuple[str, ...]:
    """The ids that a step waits for.

    Args:
        document: for errors.
        step: the step's node.
        step_id: its id.
        before: the step before it in the file, which it needs when it says nothing.
        known: every step's id.
    """
    node = step.get("needs")
    if node is None:
        return (before,) if before else ()
    if not isinstance(node, (Sequence, Scalar)):
        raise document.error(node.offset, f"step {step_id!r}: needs must be a list of ids, not {fields.kind(node)}")
    found: list[str] = []
    for item in node.items if isinstance(node, Sequence) else [node]:
        need = fields.text(document, item, f"step {step_id!r}: each of its needs", longest=255)
        if need not in known:
            hint = suggestion(need, (one for one in known if one != step_id), else_list="the steps are")
            raise document.error(item.offset, f"step {step_id!r} needs {shown(need)}, which is no step{hint}")
        if need == step_id:
            raise document.error(item.offset, f"step {step_id!r} needs itself; take it out of its needs")
        if need in found:
            raise document.error(item.offset, f"step {step_id!r} needs {need!r} twice; take one of them out")
        found.append(need)
    return tuple(found)


def refuse_circle(document: Document, needs: MappingOf[str, tuple[str, ...]], nodes: MappingOf[str, Mapping]) -> None:
    """Refuse steps that wait for one another, naming the way round."""
    circle = _circle(needs)
    if circle:
        node = nodes[circle[0]]
        entry = node.entries.get("needs")
        way = " → ".join([*circle, circle[0]])
        what = f"steps wait for one another: {way} (each needs the next); take one of these needs out"
        raise document.error(entry.offset if entry else node.offset, what)


def _circle(needs: MappingOf[str, tuple[str, ...]]) -> list[str]:
    """The ids of one circle, each needing the next, else nothing."""
    followers: dict[str, list[str]] = {step: [] for step in needs}
    for step, wanted in needs.items():
        for need in wanted:
            followers[need].append(step)
    left = {step: len(wanted) for step, wanted in needs.items()}
    free = [step for step, count in left.items() if count == 0]
    while free:
        step = free.pop()
        del left[step]
        for follower in followers[step]:
            left[follower] -= 1
            if left[follower] == 0:
                free.append(follower)
    if not left:
        return []
    way: list[str] = []
    place: dict[str, int] = {}
    step = next(iter(left))
    while step not in place:  # whoever is left needs another one that is left
        place[step] = len(way)
        way.append(step)
        step = next(need for need in needs[step] if need in left)
    return way[place[step] :]
