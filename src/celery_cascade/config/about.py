"""What a setting is, in words for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

PREFIX = "cascade_"

Kind = Literal["flag", "seconds", "count", "bytes", "text", "patterns", "retention", "age"]

#: What a value of each kind may be, for the page of settings.
TYPES: Mapping[Kind, str] = {
    "flag": "`True` or `False`",
    "seconds": "seconds as a number, or a `timedelta`",
    "count": "a whole number",
    "bytes": "bytes as a whole number",
    "text": "text or a path, or `None`",
    "patterns": "a list of glob patterns, or one",
    "retention": "a `Retention`, a mapping of its fields, or `None`",
    "age": "a `timedelta`, a number of days, or `None` = for ever",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """One setting in words, the source of docs/settings.md.

    Args:
        kind: what its value may be.
        doc: what it is.
        change: when to change it; goes on after "Change it when".
        without: what happens where it is left alone.
        variable: the environment variable that is read where the setting is not made; None = there is none.
        least: the smallest count.
        part: the class of a value with fields of its own.
    """

    kind: Kind
    doc: str
    change: str
    without: str
    variable: str | None = None
    least: int = 1
    part: type | None = None


def setting(default: Any, kind: Kind, **words: Any) -> Any:
    """A dataclass field that knows what it is; see `About`. With a `part`, the default is one made of its defaults."""
    about = About(kind=kind, **words)
    if about.part is not None:
        return dataclasses.field(default_factory=about.part, metadata={"about": about})
    return dataclasses.field(default=default, metadata={"about": about})


def settings_of(cls: Any) -> dict[str, About]:
    """The settings of a class by name, in its order."""
    return {item.name: item.metadata["about"] for item in dataclasses.fields(cls)}
