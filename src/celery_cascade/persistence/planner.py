"""Words for planners that cannot be left to guess: each means the same to every database, and something to one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Integer
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class _Bare(FunctionElement[Any]):
    inherit_cache = True
    name = "cascade_bare"


class _Led(FunctionElement[Any]):
    inherit_cache = True
    name = "cascade_led"
    type = Integer()  # of a Boolean SQLAlchemy makes `… = 1` for SQLite, and that is no term for an index


class _Asked(FunctionElement[Any]):
    inherit_cache = True
    name = "cascade_asked"
    type = Integer()


class _Begins(FunctionElement[Any]):
    inherit_cache = True
    name = "cascade_begins"
    type = Integer()  # of a Boolean SQLAlchemy makes `… = 1` for SQLite, and that is no term for an index


class _Contains(FunctionElement[int]):
    inherit_cache = True
    name = "cascade_contains"
    type = Integer()


def bare(column: Any) -> Any:
    """The column, of which SQLite shall make no use by an index."""
    return _Bare(column)


def led(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """The condition, by whose index SQLite shall begin. Its statistics hold NULLs for values: most rows, it thinks."""
    return _Led(condition)


def asked(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """A look that PostgreSQL shall take at one row after the other, mostly at another table.

    It would make a join of it, think that next to nothing is left, and read all that there is for one page.
    """
    return _Asked(condition)


def begins(column: Any, prefix: str) -> ColumnElement[bool]:
    """Whether a text begins so, case and all.

    LIKE finds the range in the index, but not every database takes the case of letters seriously there, and SQLite
    finds none for that reason.
    """
    return _Begins(column.startswith(prefix, autoescape=True), column, prefix, prefix + "\U0010ffff", len(prefix))


def contains(column: Any, text: str) -> ColumnElement[bool]:
    """Whether a text has this one in it, by the letter, % and _ included."""
    return _Contains(column, text) > 0


def _parts(element: FunctionElement[Any], compiler: Any, **kw: Any) -> list[str]:
    return [compiler.process(clause, **kw) for clause in element.clauses]


@compiles(_Bare)
@compiles(_Led)
@compiles(_Asked)
def _as_it_is(element: Any, compiler: Any, **kw: Any) -> str:
    return _parts(element, compiler, **kw)[0]


@compiles(_Bare, "sqlite")
def _with_plus(element: Any, compiler: Any, **kw: Any) -> str:
    return f"+{_parts(element, compiler, **kw)[0]}"


@compiles(_Asked, "postgresql")
def _as_value(element: Any, compiler: Any, **kw: Any) -> str:
    return f"coalesce({_parts(element, compiler, **kw)[0]}, false)"


@compiles(_Led, "sqlite")
def _as_rare(element: Any, compiler: Any, **kw: Any) -> str:
    return f"unlikely({_parts(element, compiler, **kw)[0]})"


@compiles(_Begins)
def _by_like(element: Any, compiler: Any, **kw: Any) -> str:
    like, column, prefix, _, length = element.clauses
    parts = [compiler.process(clause, **kw) for clause in (like, column, length, prefix)]
    return "({} AND substr({}, 1, {}) = {})".format(*parts)


@compiles(_Begins, "sqlite")
def _by_range(element: Any, compiler: Any, **kw: Any) -> str:
    _, column, prefix, end, _ = element.clauses
    parts = [compiler.process(clause, **kw) for clause in (column, prefix, column, end)]
    return "({} >= {} AND {} < {})".format(*parts)


@compiles(_Contains)
def _instr(element: Any, compiler: Any, **kw: Any) -> str:
    return f"instr({', '.join(_parts(element, compiler, **kw))})"


@compiles(_Contains, "postgresql")
def _strpos(element: Any, compiler: Any, **kw: Any) -> str:
    return f"strpos({', '.join(_parts(element, compiler, **kw))})"
