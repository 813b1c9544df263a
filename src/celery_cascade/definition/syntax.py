"""Which expressions are allowed, and which steps and inputs they name: a walk over Jinja2's syntax tree."""

# ruff: noqa: N802  -- Jinja2 finds visitors by the names of its nodes
from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from celery_cascade.definition import methods
from celery_cascade.definition.filters import FILTERS, TESTS
from celery_cascade.definition.limits import MAX_BITS, MAX_EXPRESSION_DEPTH
from celery_cascade.errors import TemplateError
from celery_cascade.words import shown, suggestion

NAMES = ("inputs", "outputs", "session")
SESSION_KEYS = frozenset({"id"})
_ALLOWED = frozenset({
    nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.Getattr,
    nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.Call, nodes.CondExpr, nodes.Compare, nodes.Operand,
    nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow, nodes.And, nodes.Or, nodes.Not,
    nodes.Neg, nodes.Pos, nodes.Concat,
})  # fmt: skip
_HYPHEN = re.compile(r"\b(?:inputs|outputs)\.(\w+(?:-\w+)+)")


class Checker(NodeTransformer):
    """Refuses what is not on the list, and rewrites `~`, tuples and method calls to what is bounded and data.

    Attributes:
        outputs: the steps named as `outputs.X`.
        inputs: the inputs named as `inputs.X`.
    """

    def __init__(self, source: str) -> None:
        self.outputs: set[str] = set()
        self.inputs: set[str] = set()
        self._source = source
        self._depth = 0

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        if type(node) not in _ALLOWED:
            raise TemplateError(f"{type(node).__name__} is not allowed in a template")
        if getattr(node, "dyn_args", None) is not None or getattr(node, "dyn_kwargs", None) is not None:
            raise TemplateError("* and ** before an argument are not allowed in a template")
        self._depth += 1
        if self._depth > MAX_EXPRESSION_DEPTH:
            raise TemplateError(f"the expression is nested deeper than {MAX_EXPRESSION_DEPTH} levels; split it")
        found = super().visit(node, *args, **kwargs)
        self._depth -= 1
        return found

    def visit_Const(self, node: nodes.Const) -> nodes.Node:
        if isinstance(node.value, int) and node.value.bit_length() > MAX_BITS:
            raise TemplateError(f"a number of more than {MAX_BITS} bits")
        return node

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        if node.name not in NAMES:
            hyphen = _HYPHEN.search(self._source)
            cure = f"; a name with a hyphen is written ['{hyphen[1]}']" if hyphen else suggestion(node.name, NAMES)
            raise TemplateError(f"{shown(node.name)} is not known; a template may name inputs, outputs, session{cure}")
        if node.name == "outputs":
            raise TemplateError("outputs needs the id of a step: outputs.charge or outputs['charge']")
        return node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        if node.attr.startswith("_"):
            raise TemplateError(f".{node.attr} is not allowed; a key with this name is written ['{node.attr}']")
        return self._reached(node, node.attr)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        node.arg = self.visit(node.arg)
        return self._reached(node, node.arg.value if isinstance(node.arg, nodes.Const) else None)

    def _reached(self, node: nodes.Getattr | nodes.Getitem, key: Any) -> nodes.Node:
        """Note what `inputs.key` and the like name; walk on below other values."""
        holder = node.node.name if isinstance(node.node, nodes.Name) else None
        if holder == "outputs":
            if not isinstance(key, str):
                raise TemplateError("outputs[…] takes the id of a step in quotes, so that it is known beforehand")
            self.outputs.add(key)
            return node
        if holder == "inputs" and isinstance(key, str):
            self.inputs.add(key)
        if holder == "session" and isinstance(key, str) and key not in SESSION_KEYS:
            hint = suggestion(key, SESSION_KEYS, else_list="it has")
            raise TemplateError(f"session has no {shown(key)}{hint}")
        node.node = self.visit(node.node)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        self._bind("filter", node.name, FILTERS, node)
        return self.generic_visit(node)

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        self._bind("test", node.name, TESTS, node)
        return self.generic_visit(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        target = node.node
        if not isinstance(target, nodes.Getattr):
            name = target.name if isinstance(target, nodes.Name) else "this"
            raise TemplateError(f"{name}(…) is not allowed; only filters and a few methods can be called")
        if target.attr not in methods.NAMES:
            hint = suggestion(target.attr, methods.NAMES)
            raise TemplateError(f"the method {target.attr}() is not allowed{hint}")
        if node.kwargs:
            raise TemplateError(f"the method {target.attr}() takes no named arguments here")
        args = [nodes.Const(target.attr), *(self.visit(arg) for arg in node.args)]
        return _inner("_method", self.visit(target.node), args, node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        parts = nodes.List([self.visit(part) for part in node.nodes], lineno=node.lineno)
        return _inner("_concatenate", parts, [], node.lineno)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return nodes.List([self.visit(item) for item in node.items], lineno=node.lineno)

    def _bind(self, what: str, name: str, known: Mapping[str, Callable[..., Any]], node: Any) -> None:
        """Whether there is such a filter, and whether it takes these arguments."""
        if name not in known:
            raise TemplateError(f"there is no {what} {shown(name)}{suggestion(name, known)}")
        try:
            signature = inspect.signature(known[name])
            signature.bind(None, *node.args, **{one.key: None for one in node.kwargs})
        except TypeError as error:
            raise TemplateError(f"the {what} {name}: {error}") from error
        except ValueError:  # one of Python's own that does not tell its signature
            return


def _inner(name: str, value: nodes.Expr, args: list[nodes.Expr], line: int) -> nodes.Filter:
    return nodes.Filter(value, name, args, [], None, None, lineno=line)
