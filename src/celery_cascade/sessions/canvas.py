"""A Celery signature as a cascade: its shape is the definition, its arguments are the inputs (R151)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery.canvas import Signature, maybe_signature, maybe_unroll_group

from celery_cascade.definition.cascade import Source
from celery_cascade.definition.source import from_bytes
from celery_cascade.errors import DefinitionError
from celery_cascade.sessions import send_options
from celery_cascade.tasks.decorating import policy_of

LONGEST_NAME = 255
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class Sent:
    """What one call passes on to a signature: Celery's partial arguments and options."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def source_of(
    signature: Signature, tasks: Mapping[str, Any], sent: Sent = Sent(), *, max_bytes: int
) -> tuple[Source, dict[str, Any]]:
    """The definition of a canvas, and the inputs of its session: step id -> args, kwargs, headers.

    Args:
        signature: a task's signature, or a chain, group or chord of them.
        tasks: the app's registry, for what `@cascades.step` says.
        sent: partial arguments and options of the call.
        max_bytes: largest definition.

    Raises:
        DefinitionError: it holds something that durable sessions do not have yet, named.
    """
    writing = _Writing(tasks)
    node = writing.node(signature, sent)
    text = json.dumps({"cascade": name_of(node), **node}, ensure_ascii=False, separators=(",", ":"))
    return from_bytes(text.encode("utf-8", "replace"), source_format="canvas", max_bytes=max_bytes), writing.inputs


def kind_of(signature: Mapping[str, Any]) -> str | None:
    """`chain`, `group`, `chord`, `map`, `starmap`, `chunks`, whatever else there is; None = one task."""
    if signature["task"] in ("celery.map", "celery.starmap", "celery.chunks"):  # they say no type
        return str(signature["task"]).rpartition(".")[2]
    kind: str | None = signature.get("subtask_type")
    return kind


@dataclass(slots=True)
class _Writing:
    tasks: Mapping[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)

    def node(self, signature: Any, sent: Sent) -> dict[str, Any]:
        signature = maybe_signature(signature)
        match kind_of(signature):
            case None:
                return self._leaf(signature, sent)
            case "chain":
                return self._chain(signature, sent)
            case "group":
                return self._group(signature, list(signature.tasks), sent)
            case "chord":
                return self._chord(signature, sent)
            case other:
                raise DefinitionError(
                    f"a durable canvas cannot hold {other} yet",
                    hint=f"Use a group of tasks, or send the {other} as a plain message with durable=False",
                )

    def _leaf(self, signature: Signature, sent: Sent) -> dict[str, Any]:
        given = _merged(signature, sent)
        name = str(signature["task"])
        task = self.tasks.get(name)
        options, headers = send_options.read(name, given.options)
        step_id = self._step_id(name)
        policy = policy_of(task)
        args, kwargs = given.args, given.kwargs
        dump = getattr(task, "_dump_pydantic_arguments", None)
        if dump is not None:  # @app.task(pydantic=True)
            args, kwargs = dump(args, kwargs)
        self.inputs[step_id] = {"args": list(args), "kwargs": dict(kwargs)}
        if headers:
            self.inputs[step_id]["headers"] = headers
        return {
            "task": name,
            "step": {"id": step_id} | (policy.as_json() if policy else {}),
            "args": [],
            "kwargs": {},
            "options": options,
            "subtask_type": None,
            "immutable": bool(signature.immutable),
        }

    def _chain(self, signature: Signature, sent: Sent) -> dict[str, Any]:
        """Options and partial arguments are for the first task, as in Celery."""
        given = _merged(signature, sent)
        tasks = _some(signature.tasks, "chain")
        nodes = []
        for task in tasks:
            task = maybe_unroll_group(task) if task.get("subtask_type") == "group" else task
            nodes.append(self.node(task, given))
            given = Sent()
        return _composed("chain", {"tasks": nodes})

    def _group(self, signature: Signature, tasks: list[Any], sent: Sent) -> dict[str, Any]:
        """Options and partial arguments are for each member, as in Celery."""
        given = _merged(signature, sent)
        return _composed("group", {"tasks": [self.node(task, given) for task in _some(tasks, "group")]})

    def _chord(self, signature: Signature, sent: Sent) -> dict[str, Any]:
        """Partial arguments are for the header, options for header and body; `chord(header)(body)` sends the body."""
        given = _merged(signature, sent)
        partial = dict(given.kwargs)
        body = partial.pop("body", None) or signature.body
        if body is None:
            raise DefinitionError("a chord has no body", hint="Give it one: chord(header, body), or send the group")
        header = signature.tasks if isinstance(signature.tasks, Signature) else Signature("celery.group")
        tasks = list(header.tasks if header is signature.tasks else signature.tasks)
        kwargs = {
            "header": self._group(header, tasks, Sent(given.args, partial, given.options)),
            "body": self.node(body, Sent(options=given.options)),
        }
        return _composed("chord", kwargs)

    def _step_id(self, task: str) -> str:
        """The last word of the task's name; a second one of it is `word_2`."""
        word = _NOT_IN_IDS.sub("_", task.rpartition(".")[2])[:40] or "step"
        word = word if not word[0].isdigit() else f"_{word}"
        found, number = word, 2
        while found in self.inputs:
            found, number = f"{word}_{number}", number + 1
        return found


def _merged(signature: Signature, sent: Sent) -> Sent:
    """The call's partial arguments before the signature's own; an immutable one takes options only."""
    own = Sent(tuple(signature.args or ()), dict(signature.kwargs or {}), dict(signature.options or {}))
    if signature.get("subtask_type") is not None:
        own = Sent(own.args, {}, own.options)
    options = {**own.options, **sent.options}
    if signature.immutable:
        return Sent(own.args, own.kwargs, options)
    return Sent((*sent.args, *own.args), {**own.kwargs, **sent.kwargs}, options)


def _some(tasks: Any, kind: str) -> list[Any]:
    found = [maybe_signature(task) for task in tasks]
    if not found:
        raise DefinitionError(f"the {kind} holds no task")
    return found


def _composed(kind: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": f"celery.{kind}",
        "args": [],
        "kwargs": kwargs,
        "options": {},
        "subtask_type": kind,
        "immutable": False,
    }


def name_of(node: Mapping[str, Any]) -> str:
    """The cascade id of a canvas: `shop.charge`, or `chain(shop.charge, group(...))`, cut at 255."""
    name = _spoken(node)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _spoken(node: Mapping[str, Any]) -> str:
    kind, kwargs = node["subtask_type"], node["kwargs"]
    if kind is None:
        return str(node["task"])
    parts = [kwargs["header"], kwargs["body"]] if kind == "chord" else kwargs["tasks"]
    return f"{kind}({', '.join(map(_spoken, parts))})"
