"""`+ - * / // % **` and `~` on JSON's types, each refusing before it makes something large."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jinja2 import Undefined

from celery_cascade.definition.limits import MAX_BITS
from celery_cascade.definition.meter import TooMuch, charge, charge_for, size
from celery_cascade.words import type_name

Number = int | float


def operate(symbol: str, left: Any, right: Any) -> Any:
    """The result of a binary operator.

    Raises:
        TypeError: these types do not go together.
        TooMuch: the result is larger than the context allows.
        UndefinedError: a side is not defined.
    """
    for side in (left, right):
        if isinstance(side, Undefined):
            side._fail_with_undefined_error()
    if symbol == "+" and isinstance(left, str) and isinstance(right, str):
        charge(len(left) + len(right))
        return left + right
    if symbol == "+" and isinstance(left, list) and isinstance(right, list):
        charge_for(left)
        charge_for(right)
        return left + right
    if symbol == "*" and (isinstance(left, (str, list)) or isinstance(right, (str, list))):
        return _repeat(left, right) if isinstance(left, (str, list)) else _repeat(right, left)
    if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        cure = "; join text with ~" if symbol == "+" and str in (type(left), type(right)) else ""
        raise TypeError(f"{type_name(left)} {symbol} {type_name(right)} makes no sense{cure}")
    return _checked(_ARITHMETIC[symbol](left, right))


def _repeat(value: str | list[Any], times: Any) -> Any:
    if isinstance(times, bool) or not isinstance(times, int):
        raise TypeError(f"{type_name(value)} * {type_name(times)} makes no sense")
    charge((len(value) if isinstance(value, str) else size(value)) * max(times, 0))
    return value * times


def _power(base: Number, exponent: Number) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and exponent > 0:
        _check_bits(base.bit_length() * exponent if abs(base) > 1 else 1)
    return base**exponent


def _times(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    return left * right


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise TooMuch(f"the template makes a number of more than {MAX_BITS:,} bits")


def _checked(number: Any) -> Number:
    if isinstance(number, int):
        _check_bits(number.bit_length())
        return number
    if not isinstance(number, float) or not math.isfinite(number):
        raise TypeError(f"the result is {number}, which JSON does not know")
    return number


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": _times,
    "/": lambda left, right: left / right,
    "//": lambda left, right: left // right,
    "%": lambda left, right: left % right,
    "**": _power,
}
