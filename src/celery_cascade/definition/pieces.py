"""A text with `{{ expressions }}` in it, split into its pieces.

Jinja2's own lexer is not used for this: it would turn CRLF into LF and drop the last line's end of the text
around expressions, and values are to arrive as they were written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from celery_cascade.definition.expressions import Expression, expression
from celery_cascade.definition.limits import MAX_BRACKETS, MAX_EXPRESSION
from celery_cascade.errors import TemplateError
from celery_cascade.lazy import lazy
from celery_cascade.words import shown

_OPEN = re.compile(r"\{[{%#]")
_TOKEN = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[{}()\[\]]", re.DOTALL)
_CACHED_UP_TO = 16 * 1024  # characters; longer texts are split anew each time rather than kept


class Mentions(NamedTuple):
    """What templates name."""

    outputs: frozenset[str]
    inputs: frozenset[str]


@dataclass(frozen=True)
class Template:
    """A text, split.

    Args:
        pieces: literal text and expressions in turn.
    """

    pieces: tuple[str | Expression, ...]

    @lazy
    def is_one_expression(self) -> bool:
        """Whether the text is exactly one expression, whose value then keeps its type."""
        return len(self.pieces) == 1 and isinstance(self.pieces[0], Expression)

    @lazy
    def mentions(self) -> Mentions:
        """The steps and inputs that the expressions name."""
        expressions = [piece for piece in self.pieces if isinstance(piece, Expression)]
        return Mentions(
            frozenset().union(*(one.outputs for one in expressions)),
            frozenset().union(*(one.inputs for one in expressions)),
        )


def template(text: str) -> Template:
    """A text split into its pieces; a text without `{{` is one literal piece.

    Raises:
        TemplateError: a statement or comment, an expression without end, or one that is not allowed.
    """
    if "{" not in text:
        return Template((text,))
    return _cached(text) if len(text) <= _CACHED_UP_TO else _split(text)


def _split(text: str) -> Template:
    pieces: list[str | Expression] = []
    at, strip_left = 0, False
    while start := _OPEN.search(text, at):
        if start.group() != "{{":
            raise TemplateError(_refused(start.group(), text[start.start() : start.start() + 30]))
        end = _end(text, start.end())
        source = text[start.end() : end]
        literal = text[at : start.start()]
        literal = literal.lstrip() if strip_left else literal
        if source.startswith("-"):
            literal, source = literal.rstrip(), source[1:]
        strip_left = source.endswith("-")
        source = source[:-1] if strip_left else source
        if not source.strip():
            raise TemplateError("{{ }} holds no expression")
        pieces += [literal, expression(source)] if literal else [expression(source)]
        at = end + 2
    rest = text[at:].lstrip() if strip_left else text[at:]
    return Template((*pieces, rest) if rest or not pieces else tuple(pieces))


def _refused(opening: str, near: str) -> str:
    what = "statements" if opening == "{%" else "comments"
    cure = f"as plain text it is written {{{{ '{opening}' }}}}"
    return f"{what} such as {shown(near, quote=False)} are not allowed, only {{{{ expressions }}}}; {cure}"


_cached = lru_cache(maxsize=4096)(_split)


def _end(text: str, start: int) -> int:
    """Where the `}}` of the expression stands that begins at `start`."""
    depth = 0
    for token in _TOKEN.finditer(text, start, start + MAX_EXPRESSION + 2):
        match token.group():
            case "{" | "(" | "[":
                depth += 1
                if depth > MAX_BRACKETS:
                    raise TemplateError(f"more than {MAX_BRACKETS} brackets are open at once; split the expression")
            case "}" if depth <= 0:
                if text.startswith("}}", token.start()):
                    return token.start()
                raise TemplateError("a single } in an expression; it ends with }}")
            case "}" | ")" | "]":
                depth -= 1
            case _:
                continue
    near = shown(text[start - 2 : start + 30])
    if len(text) > start + MAX_EXPRESSION:
        raise TemplateError(f"{near} does not end within {MAX_EXPRESSION:,} characters; is }}}} missing?")
    raise TemplateError(f"{near} has no end; is }}}} missing?")
