"""`--resume [SESSION_ID]` of `run`: its value is optional wherever it stands (R61), and a file is never the value (D8).

click's own optional value takes whatever follows, `--resume order.yaml` too, so the option is taken off the line before
click reads the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import click

from celery_cascade.cli.options import Verb

OPTION = "--resume"


@dataclass(frozen=True, slots=True)
class Resume:
    """That a session is to go on.

    Args:
        session: which one, as it was written; None = the last one of the files.
        bound: written after a `=`, so it is no file whatever it looks like.
    """

    session: str | None = None
    bound: bool = False


def take_resume(
    words: Sequence[str], *, taking: Collection[str], is_file: Callable[[str], bool]
) -> tuple[list[str], Resume | None]:
    """A command line without `--resume`, and what that said; of several the last one counts.

    `--resume=WORD` is always about a session. After `--resume` alone a word is one unless it is an option or a file.

    Args:
        words: of the command line, after the verb.
        taking: the options whose next word is their value.
        is_file: whether a word is a cascade file.
    """
    left: list[str] = []
    found: Resume | None = None
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*left, word, *rest], found
        if word == OPTION:
            here = bool(rest) and not rest[0].startswith("-") and not is_file(rest[0])
            found = Resume(rest.pop(0) if here else None)
        elif word.startswith(f"{OPTION}="):
            found = Resume(word.removeprefix(f"{OPTION}="), bound=True)
        else:
            left.append(word)
            if word in taking and rest:
                left.append(rest.pop(0))
    return left, found


class RunVerb(Verb):
    """`run`, whose parameter `resume` is a Resume or None."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's, of what is left without `--resume`."""
        from celery_cascade.sessions.registry import is_file_name  # with the database layer

        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        taking = {name for one in options if not (one.is_flag or one.count) for name in one.opts} - {OPTION}
        left, found = take_resume(args, taking=taking, is_file=is_file_name)
        rest: Any = super().parse_args(ctx, left)
        ctx.params["resume"] = found
        return rest  # type: ignore[no-any-return]
