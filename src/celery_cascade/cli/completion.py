"""`cascade completion`: what makes a shell complete our words."""

from __future__ import annotations

import os

import click
from click.shell_completion import get_completion_class

from celery_cascade.cli.options import Verb
from celery_cascade.cli.words import out
from celery_cascade.errors import UsageError

SHELLS = ("bash", "zsh", "fish")
_EXAMPLE = (
    "cascade completion bash",
    "cascade completion zsh --celery",
    "cascade completion fish > ~/.config/fish/completions/cascade.fish",
)


@click.command(cls=Verb, example=_EXAMPLE)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--celery", is_flag=True, help="For the command `celery`, its own verbs and ours.")
def completion(shell: str | None, celery: bool) -> None:
    """Print what makes your shell complete verbs, options, cascade files, session ids and statuses.

    SHELL is bash (4.4 or later), zsh or fish; without it, the one that $SHELL names. For good, in ~/.bashrc or
    ~/.zshrc:

    \b
    eval "$(cascade completion bash)"
    eval "$(cascade completion bash --celery)"      for celery -A proj cascade
    """  # noqa: D301  -- click reads it
    from celery_cascade.cli.group import cascade

    shell = shell or os.path.basename(os.environ.get("SHELL", ""))
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise UsageError(
            f"$SHELL is {shell!r}, for which there is no completion" if shell else "there is no $SHELL to go by",
            hint="Name one: cascade completion bash",
        )
    program = "celery" if celery else "cascade"
    maker = kind(cascade, {}, program, f"_{program.upper()}_COMPLETE")
    out(maker.source_template % maker.source_vars(), theirs=True)  # `source()` would ask bash for its version first
