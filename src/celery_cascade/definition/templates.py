"""Rendering: structures of text with `{{ expressions }}` to plain values.

Values are data: what an expression gives is never looked at for templates again. A text that is exactly one
expression gives the expression's own value; any other template gives text; keys are not templates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Undefined
from jinja2.exceptions import UndefinedError

from celery_cascade.definition.expressions import Expression
from celery_cascade.definition.filters import as_text
from celery_cascade.definition.meter import METER, Meter, TooMuch, charge_for
from celery_cascade.definition.pieces import Template, template
from celery_cascade.errors import TemplateError
from celery_cascade.words import shown

_FREE = 64  # values of one render that are not measured when they are passed on and not made: nothing is copied


def render(value: Any, context: Mapping[str, Any], *, where: str) -> Any:
    """A structure with its templates replaced by their values.

    Args:
        value: mappings, lists and scalars; a tuple gives a list.
        context: `inputs`, `outputs` and `session`, all plain data.
        where: what errors call the structure, such as `steps.charge.with`.

    Raises:
        TemplateError: something is named that is not there, or more is made than the context's size allows.
    """
    meter = METER.set(Meter(context))
    try:
        return _Rendering(context).value(value)
    except _Failed as failed:
        raise TemplateError(f"{where}{failed.path}: {failed.what}") from failed.__cause__
    finally:
        METER.reset(meter)


def names_of(value: Any) -> frozenset[str]:
    """The ids of the steps that the templates in a structure name as `outputs.X`.

    Raises:
        TemplateError: a template is not well-formed or not allowed.
    """
    found: frozenset[str] = frozenset()
    for text in _texts(value):
        found |= template(text).mentions.outputs
    return found


def check(value: Any, where: str) -> None:
    """Refuse a structure whose templates are not well-formed or not allowed.

    Raises:
        TemplateError: the first such template.
    """
    for text in _texts(value):
        try:
            template(text)
        except TemplateError as error:
            raise TemplateError(f"{where}: {error.message}") from error


class _Failed(Exception):
    """A template failed; `path` grows on the way out."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path = ""


class _Rendering:
    """One call of `render`."""

    __slots__ = ("_context", "_passed")

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._context = context
        self._passed = 0

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value) if "{" in value else value
        if isinstance(value, Mapping):
            return self._each(value.items(), ".{}", {})
        if isinstance(value, (list, tuple)):
            return list(self._each(enumerate(value), "[{}]", {}).values())
        return value

    def _each(self, items: Any, step: str, into: dict[Any, Any]) -> dict[Any, Any]:
        for key, item in items:
            try:
                into[key] = self.value(item)
            except _Failed as failed:
                failed.path = step.format(key) + failed.path
                raise
        return into

    def _text(self, text: str) -> Any:
        try:
            found = template(text)
        except TemplateError as error:
            raise _Failed(error.message) from error
        if found.is_one_expression:
            return self._expression(found.pieces[0])
        return self._joined(found)

    def _joined(self, found: Template) -> str:
        texts = []
        for piece in found.pieces:
            texts.append(piece if isinstance(piece, str) else self._written(piece))
        return "".join(texts)

    def _written(self, found: Expression) -> str:
        value = self._expression(found)
        try:
            text = as_text(value)
            charge_for(text)
        except (TooMuch, ValueError, RecursionError) as error:
            raise _failed(found, str(error)) from error
        return text

    def _expression(self, found: Any) -> Any:
        if found.path:
            value: Any = self._context
            for name in found.path:
                if type(value) is not dict or name not in value:
                    break  # the slow way knows what to say
                value = value[name]
            else:
                self._pass_on(found, value)
                return value
        return self._evaluate(found)

    def _evaluate(self, found: Expression) -> Any:
        try:
            value = found.evaluate(self._context)
            if isinstance(value, Undefined):
                value._fail_with_undefined_error()
            if not isinstance(value, str):
                charge_for(value)
        except UndefinedError as error:
            raise _failed(found, error.message or str(error)) from error
        except Exception as error:  # whatever data and expression do to each other
            raise _failed(found, str(error) or type(error).__name__) from error
        if isinstance(value, str):  # counted where it was made, if it was
            self._pass_on(found, value)
        return value

    def _pass_on(self, found: Expression, value: Any) -> None:
        self._passed += 1
        if self._passed > _FREE:
            self._charge_for(found, value)

    def _charge_for(self, found: Expression, value: Any) -> None:
        try:
            charge_for(value)
        except TooMuch as error:
            raise _failed(found, str(error)) from error


def _failed(found: Expression, what: str) -> _Failed:
    return _Failed(f"{{{{ {shown(found.source.strip(), quote=False)} }}}}: {what}")


def _texts(value: Any) -> list[str]:
    """Every text in a structure that may be a template."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if "{" in item:
                found.append(item)
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
    return found[::-1]
