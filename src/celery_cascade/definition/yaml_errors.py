"""PyYAML's errors in one line, with a cure for the usual ones."""

from __future__ import annotations

from typing import Any

import yaml

from celery_cascade.definition.limits import MAX_DEPTH
from celery_cascade.definition.places import Text
from celery_cascade.errors import DefinitionError
from celery_cascade.words import shown

_EXPLAINED = {
    "cannot start any token": "a tab cannot indent YAML; use spaces",
    "mapping values are not allowed": "a ': ' is not expected here; check the indentation, or put the text in quotes",
    "could not find expected ':'": "a key without ':'; check the indentation, or put the text in quotes",
    # libyaml of PyYAML 6.0.4 stops by itself at 1,000 levels, before it tells of the first one.
    "exceeded maximum nesting depth": f"nested deeper than {MAX_DEPTH} levels",
}


def explained(text: Text, error: yaml.YAMLError) -> DefinitionError:
    """An error of PyYAML's as one of ours, at its place."""
    if not isinstance(error, yaml.MarkedYAMLError):
        position = getattr(error, "position", 0)
        character = getattr(error, "character", None)
        code = f" (0x{character:02x})" if isinstance(character, int) else ""
        return text.error(min(position, len(text.content)), f"a character that YAML does not allow{code}")
    mark: Any = error.problem_mark or error.context_mark
    offset = min(mark.index, len(text.content)) if mark else 0
    problem = error.problem or error.context or "not well-formed YAML"
    if "cannot start any token" in problem and text.content[offset : offset + 1] != "\t":
        what = f"{shown(text.content[offset : offset + 1])} cannot start a value; put the text in quotes"
    else:
        what = next((cure for part, cure in _EXPLAINED.items() if part in problem), problem)
    context = f" ({error.context})" if error.context and what == problem else ""
    return text.error(offset, what + context)
