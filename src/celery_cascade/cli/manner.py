"""How this call speaks: `-q`, `--utc`, `--ascii`, which every verb takes, or the environment.

Kept for the process and not in click's context: other threads speak too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

#: What our own texts have beyond ASCII, and what stands for it.
_PLAIN = str.maketrans(
    {
        "…": "...",
        "·": ".",
        "→": "->",
        "←": "<-",
        "└": "`",
        "├": "|",
        "│": "|",
        "─": "-",
        "–": "-",
        "—": "-",
        "×": "x",
        "≤": "<=",
        "≥": ">=",
        "▸": ">",
        "✓": "ok",
        "✗": "FAILED",
        "“": '"',
        "”": '"',
        "’": "'",
    }
)
#: Of the environment -> what it sets, as the option of this name does.
VARIABLES = {name: f"CELERY_CASCADE_{name.upper()}" for name in ("quiet", "utc", "ascii")}


@dataclass(slots=True)
class Manner:
    """What holds for this call."""

    quiet: bool = False
    utc: bool = False
    ascii: bool = False


_manner = Manner()


def manner() -> Manner:
    """What holds now."""
    return _manner


def reset() -> None:
    """A new call begins."""
    _manner.quiet = _manner.utc = _manner.ascii = False


def in_ascii(text: str) -> str:
    """A text of ours as this call wants it. What users wrote is theirs: only our own signs have a stand-in."""
    return text.translate(_PLAIN) if _manner.ascii and not text.isascii() else text


def options() -> Sequence[click.Option]:
    """The options, new ones for each verb."""
    return [
        _flag("quiet", "-q", "Say nothing on stderr but errors."),
        _flag("utc", None, "Show times in UTC, with a Z, and not in the local zone."),
        _flag("ascii", None, "Write no characters beyond ASCII in our own words."),
    ]


def _flag(name: str, short: str | None, words: str) -> click.Option:
    names = [*([short] if short else []), f"--{name}"]
    return click.Option(
        names,
        is_flag=True,
        is_eager=True,  # before anything else of this line can fail and be told
        expose_value=False,
        callback=_set,
        envvar=VARIABLES[name],
        help=words,
    )


def _set(_: click.Context, param: click.Parameter, value: bool) -> None:
    if value:  # a verb inside a verb takes them too, and one No must not undo the other's Yes
        setattr(_manner, param.name or "", True)
