"""What the templates of a definition may name: declared inputs, and outputs of steps that come before."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from celery_cascade.definition.cascade import Step
from celery_cascade.definition.document import Document
from celery_cascade.definition.nodes import Mapping, Node, Scalar, Sequence
from celery_cascade.definition.pieces import template
from celery_cascade.errors import TemplateError
from celery_cascade.words import shown, suggestion


@dataclass(frozen=True, slots=True)
class Scope:
    """What templates may name.

    Args:
        document: for errors.
        steps: every step of the cascade.
        inputs: the declared inputs; None = not declared, so every name is allowed.
    """

    document: Document
    steps: Collection[str]
    inputs: Collection[str] | None

    def check_step(self, step: Step, node: Mapping, before: Collection[str]) -> None:
        """Refuse what `with` and `when` of a step may not name; `before` are its transitive needs."""
        for key in ("with", "when"):
            value = node.get(key)
            if value is not None:
                self._check(value, f"step {step.id!r}: {key}", before, step.id)
        if isinstance(step.when, str) and not template(step.when).is_one_expression:
            what = 'must be exactly one "{{ expression }}", true or false; any other text would count as true'
            raise self.document.error(node.entries["when"].node.offset, f"step {step.id!r}: when {what}")

    def check_output(self, node: Node) -> None:
        """Refuse what `output:` may not name; it may name any step."""
        self._check(node, "output", self.steps, None)

    def _check(self, node: Node, what: str, before: Collection[str], step_id: str | None) -> None:
        for offset, text, is_key in _texts(node):
            if is_key:
                if "{{" in text:
                    self.document.warn(offset, f"{what}: keys are not templates; {shown(text)} stays as it is")
                continue
            try:
                mentions = template(text).mentions
            except TemplateError as error:
                raise self.document.error(offset, f"{what}: {error.message}") from error
            for name in sorted(mentions.outputs):
                self._check_output_name(offset, what, name, before, step_id)
            for name in sorted(mentions.inputs):
                self._check_input_name(offset, what, name)

    def _check_output_name(
        self, offset: int, what: str, name: str, before: Collection[str], step_id: str | None
    ) -> None:
        if name in before:
            return
        if name == step_id:
            raise self.document.error(offset, f"{what}: outputs.{name} is the step's own output, not known before")
        if name in self.steps:
            problem = f"outputs.{name}: {name!r} is not before {step_id!r}; add it to needs"
            raise self.document.error(offset, f"{what}: {problem}")
        hint = suggestion(name, before, else_list="the steps before it are" if step_id else "the steps are")
        raise self.document.error(offset, f"{what}: outputs.{shown(name, quote=False)}: no such step{hint}")

    def _check_input_name(self, offset: int, what: str, name: str) -> None:
        if self.inputs is not None and name not in self.inputs:
            hint = suggestion(name, self.inputs, else_list="declared are")
            raise self.document.error(
                offset, f"{what}: inputs.{shown(name, quote=False)} is not declared under inputs{hint}"
            )


def _texts(node: Node) -> Iterator[tuple[int, str, bool]]:
    """Every text of a structure with its place, and whether it is a key."""
    match node:
        case Scalar(value=str() as text):
            yield node.offset, text, False
        case Sequence():
            for item in node.items:
                yield from _texts(item)
        case Mapping():
            for key, entry in node.entries.items():
                yield entry.offset, key, True
                yield from _texts(entry.node)
        case _:
            return
