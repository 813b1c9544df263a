"""docs/cli.md out of the commands themselves: `python -m celery_cascade.cli.page`, or `scripts/docs`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence

import click

from celery_cascade.cli import manner
from celery_cascade.cli.group import HELP, VERBS, cascade
from celery_cascade.cli.options import Exampled

_HEAD = """\
# The command line

<!-- Made by scripts/docs out of the commands; a test holds the two together, another one runs every example. -->

`celery -A proj cascade VERB …` and `cascade -A proj VERB …` are the same; `export CELERY_APP=proj` saves the `-A`.
Data goes to stdout, words for people to stderr. `cascade VERB --help` says what stands here.

## Which session

An id may be cut to its first 6 characters or more; `@last` is the newest session, `@last-failed` the newest one that
failed. Verbs that act on sessions (`cancel`, `suspend`, `resume`, `rm`) take several ids, or filters instead: those of
`ls`.

## What every verb takes

"""
_AFTER = """\
| `--json` | Print data as JSON, in the shape `cascade/1`; errors, too. Nearly every verb has it. |
| `-h, --help` | Say what the verb does, with its options and examples. |

Colours are for terminals only, and not with `NO_COLOR` in the environment, nor with `celery --no-color`. On a terminal
tables are drawn with `rich` where that is installed (`pip install celery-cascade[cli]`), in a pipe in plain columns.
Times are local, in JSON in UTC.
"""


def page() -> str:
    """The whole page."""
    verbs = list(_commands())
    parts = [_HEAD.rstrip("\n"), "", *_options(manner.options()), _AFTER]
    parts += ["## Exit codes", "", "| code | |", "|---|---|"]
    parts += [f"| {code} | {words} |" for code, words in _codes()]
    parts += ["", "## Verbs", "", *(f"- [`{name}`](#{_anchor(name)}): {_first(command)}" for name, command in verbs)]
    for name, command in verbs:
        parts += ["", f"## `{name}`", "", *_verb(name, command)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _commands() -> Iterator[tuple[str, click.Command]]:
    """Every verb, a verb's own verbs after it."""
    ctx = click.Context(cascade)
    for verb in VERBS:
        command = cascade.get_command(ctx, verb)
        assert command is not None
        yield verb, command
        if isinstance(command, click.Group):
            yield from ((f"{verb} {word}", inner) for word, inner in command.commands.items())


def _codes() -> list[tuple[str, str]]:
    """The exit codes as the help tells them, once."""
    told = " ".join(HELP.partition("Exit codes:")[2].split())
    return re.findall(r"(\d+) (.+?)[,.](?= \d|$)", told)


def _first(command: click.Command) -> str:
    text = (command.help or "").strip().partition("\n\n")[0]
    return _text(" ".join(text.split()).partition(". ")[0].removesuffix(".")) + "."


def _verb(name: str, command: click.Command) -> Iterator[str]:
    yield from ("```console", _usage(name, command), "```", "")
    yield from _paragraphs(command.help or "")
    shared = {name for option in manner.options() for name in option.opts} | {"--json"}
    own = [one for one in command.params if isinstance(one, click.Option) and not shared & set(one.opts)]
    if own:
        yield from (*_options(own), "")
    if isinstance(command, Exampled):
        if command.exits:
            yield from ("| exit code | |", "|---|---|")
            yield from (f"| {code} | {_text(words)} |" for code, words in sorted(command.exits.items()))
            yield ""
        yield from ("```console", *(f"$ {line}" for line in command.example), "```")


def _usage(name: str, command: click.Command) -> str:
    examples = getattr(command, "example", ())
    program = "celery -A proj cascade" if any(line.startswith("celery") for line in examples) else "cascade"
    words = [_place(one) for one in command.params if isinstance(one, click.Argument)]
    verb = ["VERB"] if isinstance(command, click.Group) else []
    return " ".join([program, name, "[OPTIONS]", *words, *verb])


def _place(argument: click.Argument) -> str:
    text = argument.metavar or (argument.name or "").upper()
    return text if argument.required or text.startswith("[") else f"[{text}]"


def _paragraphs(text: str) -> Iterator[str]:
    """The help in Markdown; what click is told not to wrap stands as it is."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in paragraph.strip("\n").splitlines()]
        if lines[0] == "\b":
            yield from ("```console", *(line for line in paragraph.strip("\n").splitlines()[1:]), "```", "")
        else:
            yield from (_text(line) for line in lines)
            yield ""


def _options(options: Sequence[click.Option]) -> Iterator[str]:
    yield from ("| option | |", "|---|---|")
    for one in options:
        default = f" Default: {one.default}." if one.show_default else ""
        yield f"| `{_names(one)}` | {_text(one.help or '')}{default} |"


def _names(option: click.Option) -> str:
    names = ", ".join(option.opts) + "".join(f" / {name}" for name in option.secondary_opts)
    if option.is_flag:
        return names
    return f"{names} {option.metavar or _kind(option.type)}"


def _kind(kind: click.ParamType) -> str:  # type: ignore[type-arg]  # no generic before click 8.4
    if isinstance(kind, click.Choice):
        return "|".join(map(str, kind.choices))
    return "N" if isinstance(kind, click.types.IntParamType) else kind.name.upper()


def _text(text: str) -> str:
    """Words as Markdown: nothing of them is a table's border or a tag."""
    return text.replace("|", "\\|").replace("<", "\\<")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


if __name__ == "__main__":
    sys.stdout.write(page())
