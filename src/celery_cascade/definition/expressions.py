"""One `{{ expression }}`: parsed and checked once, compiled by Jinja2's sandbox at its first use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from celery_cascade.definition.filters import FILTERS, TESTS
from celery_cascade.definition.limits import MAX_EXPRESSION
from celery_cascade.definition.methods import INNER
from celery_cascade.definition.missing import Missing, look_up
from celery_cascade.definition.operators import operate
from celery_cascade.definition.syntax import NAMES, SESSION_KEYS, Checker
from celery_cascade.errors import TemplateError
from celery_cascade.lazy import lazy

_PATH = re.compile(rf"\s*({'|'.join(NAMES)})((?:\.[A-Za-z][A-Za-z0-9_]*)+)\s*", re.ASCII)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, narrowed to data: what `.` and `[]` reach is never a method or attribute of Python's."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        # Not optimized: the optimizer would work out constants while it compiles, outside any meter.
        super().__init__(undefined=Missing, autoescape=False, optimized=False, cache_size=0)
        self.globals.clear()
        self.filters = {**FILTERS, **INNER}
        self.tests = dict(TESTS)

    def getattr(self, obj: Any, attribute: str) -> Any:
        return look_up(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return look_up(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return operate(operator, left, right)


_SANDBOX = _Sandbox()


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Args:
        source: what stands between `{{` and `}}`.
        path: the names of a plain dotted path such as `outputs.load.rows`, else nothing.
        outputs: the steps that it names.
        inputs: the inputs that it names.
    """

    source: str
    path: tuple[str, ...] = ()
    outputs: frozenset[str] = field(default=frozenset())
    inputs: frozenset[str] = field(default=frozenset())

    @lazy
    def evaluate(self) -> Callable[[Mapping[str, Any]], Any]:
        """A function from the context to the value; the value may be `Missing`. A meter must be set."""
        tree = _checked(self.source)[0]
        body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), tree, lineno=1)]
        compiled = _SANDBOX.from_string(nodes.Template(body, lineno=1))

        def run(context: Mapping[str, Any]) -> Any:
            scope = compiled.new_context(dict(context), shared=True)
            for _ in compiled.root_render_func(scope):
                pass
            return scope.vars["result"]

        return run


@lru_cache(maxsize=4096)
def expression(source: str) -> Expression:
    """The expression that `source` says.

    Raises:
        TemplateError: it is not well-formed, or uses what is not allowed.
    """
    if len(source) > MAX_EXPRESSION:
        raise TemplateError(f"the expression has {len(source):,} characters; at most {MAX_EXPRESSION:,} are allowed")
    path = _PATH.fullmatch(source)
    if path and (path[1] != "session" or path[2][1:].split(".")[0] in SESSION_KEYS):
        names = tuple(path[2][1:].split("."))
        named = frozenset(names[:1])
        return Expression(
            source,
            path=(path[1], *names),
            outputs=named if path[1] == "outputs" else frozenset(),
            inputs=named if path[1] == "inputs" else frozenset(),
        )
    _, checker = _checked(source)
    return Expression(source, outputs=frozenset(checker.outputs), inputs=frozenset(checker.inputs))


def _checked(source: str) -> tuple[nodes.Expr, Checker]:
    """The syntax tree, checked and rewritten, and what it names."""
    try:
        parser = Parser(_SANDBOX, source, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            raise TemplateError(f"'{parser.stream.current}' is not expected here")
    except JinjaError as error:
        raise TemplateError(error.message or "not an expression") from error
    except RecursionError as error:
        raise TemplateError("the expression is nested too deeply; split it") from error
    except (ValueError, OverflowError, UnicodeError) as error:
        raise TemplateError(f"not an expression: {error}") from error
    checker = Checker(source)
    tree = checker.visit(tree)
    tree.set_environment(_SANDBOX)
    return tree, checker
