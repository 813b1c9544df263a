"""Where in its file a step says something: for what is found out only after the file was read."""

from __future__ import annotations

from celery_cascade.definition.cascade import Source
from celery_cascade.definition.document import Document, parse
from celery_cascade.definition.nodes import Mapping, Node, Scalar, Sequence
from celery_cascade.definition.places import Warning_
from celery_cascade.definition.reader import STEP_LISTS
from celery_cascade.errors import DefinitionError

#: The formats in which a step bears the very arguments of its task.
WRITTEN = ("yaml", "json", "inline")


def step_error(source: Source, step_id: str, keys: tuple[str, ...], what: str, *, hint: str = "") -> DefinitionError:
    """An error about a step, at its place if the source is a file, ready to be raised.

    Args:
        source: has been read without an error.
        step_id: of the step.
        keys: the way from the step to what it is about, such as `with`, `order_id`; what is not there is left out.
        what: in words.
        hint: the next command, where there is a better one than `validate`.
    """
    found = _find(source, step_id, keys)
    if found is None:
        return DefinitionError(f"{source.path}: {what}" if source.path else what, hint=hint)
    document, offset = found
    error = document.error(offset, what)
    return DefinitionError(
        error.message,
        hint=hint or error.hint,
        file=error.file,
        line=error.line,
        column=error.column,
        excerpt=error.excerpt,
    )


def step_warning(source: Source, step_id: str, keys: tuple[str, ...], what: str) -> Warning_:
    """The same as a warning."""
    found = _find(source, step_id, keys)
    if found is None:
        return Warning_(what, source.path or "", 0, 0)
    document, offset = found
    return document.text.warning(offset, what)


def _find(source: Source, step_id: str, keys: tuple[str, ...]) -> tuple[Document, int] | None:
    if source.format not in WRITTEN:
        return None
    document = parse(source)
    step = _step(document.root, step_id)
    if step is None:
        return None
    offset = step.offset
    node: Node = step
    for key in keys:
        if not isinstance(node, Mapping) or key not in node.entries:
            break
        entry = node.entries[key]
        offset, node = (entry.node.offset if key == "task" else entry.offset), entry.node
    return document, offset


def _step(root: Node, step_id: str) -> Mapping | None:
    for name in STEP_LISTS:
        steps = root.get(name) if isinstance(root, Mapping) else None
        for step in steps.items if isinstance(steps, Sequence) else ():
            written = step.get("id") if isinstance(step, Mapping) else None
            if isinstance(step, Mapping) and isinstance(written, Scalar) and written.value == step_id:
                return step
    return None
