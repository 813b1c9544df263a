"""The group of verbs. A verb's module is imported when the verb is called for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from celery_cascade.__about__ import __version__
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.problems import told
from celery_cascade.words import nearest

#: In the order of the help text.
VERBS = (
    "run",
    "resume",
    "rerun",
    "fork",
    "watch",
    "ls",
    "show",
    "tree",
    "diff",
    "replay",
    "definition",
    "versions",
    "cancel",
    "suspend",
    "keep",
    "rm",
    "threads",
    "validate",
    "schema",
    "prune",
    "migrate",
    "doctor",
    "crashtest",
    "demo",
    "init",
    "completion",
)

HELP = """Run multi-step work on Celery that survives whatever dies.

A cascade is a YAML or JSON file of steps, each one a Celery task. A session is one run of it, kept in SQL after
every step: when a worker dies, the session goes on from its last checkpoint on any worker that is left.

\b
See it work, with nothing set up:   cascade demo
Run your own:                       celery -A proj cascade run order.yaml -i order_id=7
See what runs:                      celery -A proj cascade ls
Find out what is wrong:             celery -A proj cascade doctor

`celery -A proj cascade …` and `cascade -A proj …` are the same. An id may be cut to its first 6 characters or more;
@last is the newest session, @last-failed the newest one that failed.

\b
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 not resumable, 6 definition or input invalid,
7 store missing or out of date, 8 waiting, 69 broker or database unreachable, 124 timeout, 130 interrupted.
"""


class Verbs(click.Group):
    """Finds verbs by name, and tells errors as people want to read them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, imported now."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"celery_cascade.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest right word."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = nearest(args[0], VERBS)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; an error of ours becomes words and an exit code."""
        with told(ctx):
            return super().invoke(ctx)


@click.group(cls=Verbs, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 118})
@click.option("-A", "--app", "app_name", metavar="MODULE", help="Your Celery app, as for celery -A; or CELERY_APP.")
@click.version_option(__version__, message="celery-cascade %(version)s")
@click.pass_context
def cascade(ctx: click.Context, app_name: str | None) -> None:
    """Remember who calls; see HELP."""
    Caller.of(ctx, app_name)


def main() -> None:
    """The console script `cascade`."""
    cascade()
