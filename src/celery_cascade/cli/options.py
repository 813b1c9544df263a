"""Options that several verbs share."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import click

from celery_cascade.cli import completing, manner
from celery_cascade.cli.words import want_json
from celery_cascade.definition.durations import seconds

F = TypeVar("F", bound=Callable[..., Any])

#: What the exit codes of a verb that follows a session say.
WATCHED = {
    0: "it has completed",
    1: "it failed, was cancelled or expired",
    8: "it is suspended and waits for somebody",
    124: "--timeout has passed; the session goes on",
    130: "Ctrl+C; the session goes on",
}
#: What those of a verb that begins one and follows it say.
BEGUN = {**WATCHED, 0: "it has completed; with --detach: it has begun"}
#: What those of a verb that acts on sessions say.
ACTED = {0: "it was done", 4: "it was refused, as things are; of several at least one was"}


class Exampled(click.Command):
    """A command whose help ends with examples, and which takes the options that all verbs take.

    Args:
        example: command lines, as they are typed; each is run by tests/cli/test_documented_examples.py.
        exits: exit code -> what it says of this verb, where that is more than what the codes say anyway.
    """

    def __init__(
        self, *args: Any, example: Sequence[str] = (), exits: Mapping[int, str] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.example = example
        self.exits = exits or {}
        taken = {name for param in self.params for name in param.opts}
        self.params += [option for option in manner.options() if not taken & set(option.opts)]

    def get_help(self, ctx: click.Context) -> str:
        """As click's; with `--ascii` before it in ASCII."""
        return manner.in_ascii(super().get_help(ctx))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes, and the examples, one a line, never wrapped."""
        if self.exits:
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(code), words) for code, words in sorted(self.exits.items())])
        with formatter.section("Example" if len(self.example) == 1 else "Examples"):
            for line in self.example:
                formatter.write(f"  {line}\n")


class Verb(Exampled):
    """A verb of ours."""


class VerbGroup(Exampled, click.Group):
    """A verb with verbs of its own."""


class Duration(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.4
    """`30s`, `5m`, `7d`, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The span of time."""
        if isinstance(value, timedelta):
            return value
        try:
            return timedelta(seconds=seconds(_number(value), zero=True))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


def _number(value: str) -> str | float:
    try:
        return float(value)
    except ValueError:
        return value


def json_option(function: F) -> F:
    """`--json`."""
    return click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=want_json, help="Print data as JSON (cascade/1)."
    )(function)


def id_argument(function: F) -> F:
    """The session that a verb is about."""
    return click.argument("session", metavar="ID", shell_complete=completing.sessions)(function)


def status_option(help_text: str) -> Callable[[F], F]:
    """`--status`, several times or with commas; the words of other systems are understood (D2)."""

    def callback(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[str] | None:
        from celery_cascade.sessions.finding import status_word  # with the database layer: not for verbs that need none

        words = [word.strip() for part in given for word in part.split(",")]
        return [status_word(word) for word in words] or None

    return click.option(
        "--status",
        multiple=True,
        metavar="WORD",
        callback=callback,
        help=help_text,
        shell_complete=completing.statuses,
    )


def timeout_option(function: F) -> F:
    """`--timeout`."""
    return click.option(
        "--timeout", type=Duration(), metavar="TIME", help="Watch no longer than this (30s, 5m); then exit 124."
    )(function)


def local_option(function: F) -> F:
    """`--local`."""
    return click.option(
        "--local", is_flag=True, help="Run it in this terminal: no worker, no broker, just as durable."
    )(function)


def actor() -> str | None:
    """Who is at the keyboard, for the record of what operators did."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return None
