"""A Celery canvas as it is stored: the signature's own JSON without its arguments, which are the session's inputs.

    {"cascade": "chain(shop.charge, shop.ship)", "task": "celery.chain", "subtask_type": "chain", "args": [],
     "kwargs": {"tasks": [{"task": "shop.charge", "step": {"id": "charge"}, "options": {}, "immutable": false, ...},
     ...]}, ...}

`celery.signature(...)` reads it as well. What is fed to whom is Celery's rule: the result of a task, or the list of a
group's results, comes first among the next task's arguments, unless that is immutable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_cascade.definition import durations
from celery_cascade.definition.cascade import Cascade, Shape, SignatureCall, Source, Step, steps_in
from celery_cascade.definition.document import parse
from celery_cascade.definition.limits import MAX_STEPS
from celery_cascade.definition.policies import KEYS, retry_from
from celery_cascade.definition.steps import ON_CRASH
from celery_cascade.errors import DefinitionError
from celery_cascade.words import shown


def read_canvas(source: Source) -> Cascade:
    """What a stored canvas says.

    Raises:
        DefinitionError: it is none.
    """
    root = parse(source).root.plain()
    reading = _Reading()
    returns = reading.node(root, None)
    return Cascade(id=_text(root, "cascade"), steps=tuple(reading.steps.values()), returns=returns)


@dataclass(slots=True)
class _Reading:
    steps: dict[str, Step] = field(default_factory=dict)

    def node(self, node: Any, before: Shape | None) -> Shape:
        """Add the steps of a node; returns where its result comes from."""
        match _mapping(node).get("subtask_type"):
            case None:
                return self._leaf(node, before)
            case "chain":
                for task in _tasks(node):
                    before = self.node(task, before)
                assert before is not None
                return before
            case "group":
                return self._group(_tasks(node), before)
            case "chord":
                kwargs = _mapping(node.get("kwargs"))
                return self.node(kwargs.get("body"), self._group(_tasks(kwargs.get("header")), before))
            case other:
                raise DefinitionError(f"a stored canvas holds {shown(other)}, which this version does not know")

    def _group(self, tasks: list[Any], before: Shape | None) -> Shape:
        """A group right inside a group is no list of its own: Celery unrolls it."""
        found: list[Shape] = []
        for task in tasks:
            shape = self.node(task, before)
            if _mapping(task).get("subtask_type") == "group":
                found.extend(shape)
            else:
                found.append(shape)
        return tuple(found)

    def _leaf(self, node: dict[str, Any], before: Shape | None) -> str:
        about = _mapping(node.get("step"))
        step_id = _text(about, "id")
        if step_id in self.steps:
            raise DefinitionError(f"a stored canvas holds step {step_id!r} twice")
        if len(self.steps) >= MAX_STEPS:
            raise DefinitionError(f"the canvas has more than {MAX_STEPS:,} tasks")
        fed = None if node.get("immutable") else before
        options = dict(_mapping(node.get("options")))
        self.steps[step_id] = Step(
            id=step_id,
            task=_text(node, "task"),
            needs=tuple(dict.fromkeys(steps_in(before))),
            call=SignatureCall(fed=fed),
            options={key: value for key, value in options.items() if key not in KEYS},
            **_policy(step_id, about, options),
        )
        return step_id


def _policy(step_id: str, about: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What the signature's options and the task's `@cascades.step` said when the canvas was started.

    The task may have changed since; the stored policy is the one that counts.
    """
    found: dict[str, Any] = {"said": frozenset(KEYS)}
    if "retry" in about:
        found["retry"] = retry_from(f"step {step_id!r}", about["retry"])
    if "timeout" in about:
        try:
            found["timeout"] = durations.seconds(about["timeout"])
        except ValueError as error:
            raise DefinitionError(f"a stored canvas: step {step_id!r}: timeout {error}") from error
    if "on_crash" in about:
        if about["on_crash"] not in ON_CRASH:
            raise DefinitionError(f"a stored canvas: step {step_id!r}: on_crash is {shown(about['on_crash'])}")
        found["on_crash"] = about["on_crash"]
    for key, kind in (("queue", str), ("priority", int)):
        value = options.get(key, about.get(key))
        if value is not None and type(value) is not kind:
            raise DefinitionError(f"a stored canvas: step {step_id!r}: {key} is {shown(value)}")
        found[key] = value
    return found


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DefinitionError(f"a stored canvas holds {shown(value)} where a signature belongs")
    return value


def _tasks(node: Any) -> list[Any]:
    found = _mapping(_mapping(node).get("kwargs")).get("tasks")
    if not isinstance(found, list) or not found:
        raise DefinitionError("a stored canvas holds a chain or group without tasks")
    return found


def _text(node: Any, key: str) -> str:
    value = _mapping(node).get(key)
    if not isinstance(value, str) or not value:
        raise DefinitionError(f"a stored canvas has no {key}")
    return value
