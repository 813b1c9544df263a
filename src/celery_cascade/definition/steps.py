"""One step of a definition, all but who it waits for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, get_args

from celery_cascade.definition import fields
from celery_cascade.definition.cascade import OnCrash, Step
from celery_cascade.definition.document import Document
from celery_cascade.definition.nodes import Mapping, Node, Scalar, Sequence
from celery_cascade.definition.retries import policy, retry_fields
from celery_cascade.words import shown, words

DEFAULT_KEYS = ("retry", "timeout", "queue", "priority", "on_crash")
STEP_KEYS = ("id", "task", "with", "needs", "when", *DEFAULT_KEYS, "phase", "description")
LATER_KEYS = words("map max_parallel on_error wait routes cascade compensates execution sleep until signal")
ON_CRASH: tuple[str, ...] = get_args(OnCrash)
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,49}")


@dataclass(slots=True)
class Defaults:
    """What `defaults:` says."""

    retry: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)


def read_defaults(document: Document, node: Node | None) -> Defaults:
    """`defaults:`, or none."""
    if node is None:
        return Defaults()
    given = fields.mapping(document, node, "defaults")
    fields.check_keys(document, given, "defaults", DEFAULT_KEYS, LATER_KEYS)
    retry = given.get("retry")
    return Defaults(
        retry=retry_fields(document, retry, "defaults.retry") if retry else {},
        others=_common(document, given, "defaults"),
    )


def step_id(document: Document, node: Node, number: int) -> str:
    """The id of a step.

    Args:
        document: for errors.
        node: the step.
        number: its place in the list, from 1.
    """
    step = fields.mapping(document, node, f"step {number}")
    id_node = step.get("id")
    if id_node is None:
        fields.check_keys(document, step, f"step {number}", STEP_KEYS, LATER_KEYS)
        raise document.error(step.offset, f"step {number} has no id")
    value = fields.text(document, id_node, f"the id of step {number}", longest=255)
    if not _ID.fullmatch(value):
        rule = "up to 50 letters, digits, _ and -, the first a letter or _"
        raise document.error(id_node.offset, f"{shown(value)} cannot be the id of a step; it must be {rule}")
    return value


def read_step(document: Document, node: Mapping, step_id: str, needs: tuple[str, ...], defaults: Defaults) -> Step:
    """A step, its templates not yet checked."""
    what = f"step {step_id!r}"
    fields.check_keys(document, node, what, STEP_KEYS, LATER_KEYS)
    if "task" not in node.entries:
        raise document.error(node.offset, f"{what} has no task; name a registered Celery task")
    if "description" in node.entries:
        fields.text(
            document, node.entries["description"].node, f"{what}: description", longest=100_000, may_be_empty=True
        )
    phase = node.get("phase")
    common = {**defaults.others, **_common(document, node, what)}
    retry_said = "retry" in node.entries or bool(defaults.retry)
    return Step(
        id=step_id,
        task=fields.name(document, node.entries["task"].node, f"{what}: task", longest=255),
        arguments=_arguments(document, node.get("with"), what),
        needs=needs,
        when=_when(document, node.get("when"), what),
        retry=_retry(document, node, what, defaults),
        phase=fields.name(document, phase, f"{what}: phase", longest=50) if phase else None,
        said=frozenset(common) | ({"retry"} if retry_said else frozenset()),
        **common,
    )


def _retry(document: Document, node: Mapping, what: str, defaults: Defaults) -> Any:
    retry = node.get("retry")
    own = retry_fields(document, retry, f"{what}: retry") if retry else {}
    return policy(document, retry.offset if retry else node.offset, f"{what}: retry", {**defaults.retry, **own})


def _common(document: Document, node: Mapping, what: str) -> dict[str, Any]:
    """Timeout, queue, priority and on_crash where given; null takes a default away, but there is no "no" crash."""
    found: dict[str, Any] = {}
    for key in ("timeout", "queue", "priority", "on_crash"):
        value = node.get(key)
        if value is None:
            continue
        if key == "on_crash":
            found[key] = fields.choice(document, value, f"{what}: on_crash", ON_CRASH)
        elif isinstance(value, Scalar) and value.value is None:
            found[key] = None
        elif key == "timeout":
            found[key] = fields.duration(document, value, f"{what}: timeout")
        elif key == "queue":
            found[key] = fields.name(document, value, f"{what}: queue", longest=255)
        else:
            found[key] = fields.integer(document, value, f"{what}: priority", least=0, most=255)
    return found


def _arguments(document: Document, node: Node | None, what: str) -> dict[str, Any] | tuple[Any, ...]:
    match node:
        case None:
            return {}
        case Mapping():
            return node.plain()
        case Sequence():
            return tuple(node.plain())
        case _:
            wanted = "with must be a mapping (keyword arguments) or a list (positional ones)"
            raise document.error(node.offset, f"{what}: {wanted}, not {fields.kind(node)}")


def _when(document: Document, node: Node | None, what: str) -> str | bool | None:
    if node is None:
        return None
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise document.error(node.offset, f'{what}: when must be "{{{{ … }}}}", true or false, not {fields.kind(node)}')
    return value.strip()
