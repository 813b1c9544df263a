"""The file format (DESIGN.md section 6): bytes to a checked `Cascade`."""

from __future__ import annotations

from celery_cascade.definition import fields
from celery_cascade.definition.canvas import read_canvas
from celery_cascade.definition.cascade import Cascade, Source, Step
from celery_cascade.definition.document import Document, parse
from celery_cascade.definition.limits import MAX_STEPS
from celery_cascade.definition.needs import read_needs, refuse_circle
from celery_cascade.definition.nodes import Mapping, Node
from celery_cascade.definition.places import Warning_
from celery_cascade.definition.plan import make_plan
from celery_cascade.definition.references import Scope
from celery_cascade.definition.schemas import read_inputs
from celery_cascade.definition.steps import read_defaults, read_step, step_id
from celery_cascade.words import listed, words

STEP_LISTS = ("steps", "phases", "cells")
EDITORS_KEY = "$schema"  #: says to an editor which schema the file follows, and nothing to us
ROOT_KEYS = ("cascade", "description", "inputs", "defaults", *STEP_LISTS, "output", EDITORS_KEY)
_LATER = words("triggers canvas functions execution on_error routes max_parallel")


def read_cascade(source: Source) -> Cascade:
    """What the bytes of a definition say.

    Raises:
        DefinitionError: they do not say something that can be run; with file, line, column and the nearest
            right word.
    """
    return read_with_warnings(source)[0]


def read_with_warnings(source: Source) -> tuple[Cascade, list[Warning_]]:
    """The cascade, and what in its definition probably does not mean what it looks like.

    Raises:
        DefinitionError: as `read_cascade`.
    """
    if source.format == "canvas":
        return read_canvas(source), []
    document = parse(source)
    root = fields.mapping(document, document.root, "a definition")
    fields.check_keys(document, root, "a definition", ROOT_KEYS, _LATER)
    if EDITORS_KEY in root.entries:
        fields.text(document, root.entries[EDITORS_KEY].node, EDITORS_KEY, longest=10_000)
    if "cascade" not in root.entries:
        raise document.error(root.offset, "a definition needs an id; add cascade: some-name")
    cascade_id = fields.name(document, root.entries["cascade"].node, "cascade", longest=255)
    output = root.get("output")
    nodes = _step_nodes(document, root)
    cascade = Cascade(
        id=cascade_id,
        description=_description(document, root.get("description")),
        inputs=read_inputs(document, root.get("inputs")),
        steps=_steps(document, root, nodes),
        output=output.plain() if output else None,
        has_output=output is not None,
    )
    _check_templates(document, cascade, nodes, output)
    return cascade, sorted(document.warnings, key=lambda warning: (warning.line, warning.column))


def _description(document: Document, node: Node | None) -> str:
    if node is None:
        return ""
    return fields.text(document, node, "description", longest=100_000, may_be_empty=True)


def _step_nodes(document: Document, root: Mapping) -> dict[str, Mapping]:
    """The steps by id, in the order of the file."""
    given = [key for key in STEP_LISTS if key in root.entries]
    if not given:
        raise document.error(root.offset, "a definition needs steps; add steps: with at least one")
    if len(given) > 1:
        at = root.entries[given[1]].offset
        raise document.error(at, f"{listed(given)} mean the same; keep one of them")
    items = fields.sequence(document, root.entries[given[0]].node, given[0])
    if not items.items:
        raise document.error(items.offset, f"{given[0]} must hold at least one step")
    if len(items.items) > MAX_STEPS:
        raise document.error(items.offset, f"{len(items.items):,} steps; at most {MAX_STEPS:,} are allowed")
    found: dict[str, Mapping] = {}
    for number, item in enumerate(items.items, start=1):
        key = step_id(document, item, number)
        node = fields.mapping(document, item, f"step {number}")
        if key in found:
            at = node.entries["id"].offset
            raise document.error(at, f"step {key!r} appears twice; give one of them another id")
        found[key] = node
    return found


def _steps(document: Document, root: Mapping, nodes: dict[str, Mapping]) -> tuple[Step, ...]:
    defaults = read_defaults(document, root.get("defaults"))
    needs: dict[str, tuple[str, ...]] = {}
    before: str | None = None
    for key, node in nodes.items():
        needs[key] = read_needs(document, node, key, before, nodes)
        before = key
    steps = tuple(read_step(document, node, key, needs[key], defaults) for key, node in nodes.items())
    refuse_circle(document, needs, nodes)
    return steps


def _check_templates(document: Document, cascade: Cascade, nodes: dict[str, Mapping], output: Node | None) -> None:
    scope = Scope(document, nodes.keys(), cascade.inputs)
    ancestors = make_plan(cascade).ancestors
    for step in cascade.steps:
        scope.check_step(step, nodes[step.id], ancestors[step.id])
    if output is not None:
        scope.check_output(output)
