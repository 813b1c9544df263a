"""Errors as people want to read them: what, which id, the next command; no traceback (R150)."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click
from celery.exceptions import ImproperlyConfigured

from celery_cascade import calling
from celery_cascade.cli.caller import DEBUG_VARIABLE, Caller
from celery_cascade.cli.exits import INTERRUPTED
from celery_cascade.cli.words import complain, is_json, out_json, printable
from celery_cascade.errors import CascadeError, ConfigError, UsageError

#: What an error about a place in a file bears.
_PLACE = ("file", "line", "column", "excerpt")


@contextmanager
def told(ctx: click.Context) -> Iterator[None]:
    """Inside, an error of ours ends the program with its words and its exit code."""
    in_json = "--json" in ctx.args  # also where what stands before it cannot be read
    try:
        with _click_in_json(in_json):
            yield
    except CascadeError as error:
        tell(ctx, error)
        raise click.exceptions.Exit(error.exit_code) from error
    except ImproperlyConfigured as error:
        wrong = ConfigError(f"Celery refuses the app's configuration: {error}")
        tell(ctx, wrong)
        raise click.exceptions.Exit(wrong.exit_code) from error
    except click.NoSuchOption as error:
        if not _about_the_app(error):
            raise
        wrong_place = UsageError(
            f"{error.option_name} stands before the verb, not after it", hint="Such as: celery -A proj cascade ls"
        )
        tell(ctx, wrong_place)
        raise click.exceptions.Exit(wrong_place.exit_code) from error
    except KeyboardInterrupt:
        complain("Interrupted.")
        raise click.exceptions.Exit(INTERRUPTED) from None


@contextmanager
def _click_in_json(asked: bool) -> Iterator[None]:
    """Inside, a command line that click refuses is told as data, too, if the caller asked for data."""
    try:
        yield
    except click.UsageError as error:
        if asked and not _about_the_app(error):
            path = error.ctx.command_path if error.ctx else "cascade"
            hint = f"See how it is used: {path} --help"
            out_json({"error": {"type": "UsageError", "message": error.format_message(), "hint": hint}})
        raise


def _about_the_app(error: click.UsageError) -> bool:
    return isinstance(error, click.NoSuchOption) and error.option_name in ("-A", "--app")


def tell(ctx: click.Context, error: CascadeError) -> None:
    """Write an error to stderr, and as JSON to stdout if the caller asked for JSON."""
    if os.environ.get(DEBUG_VARIABLE):
        complain("".join(traceback.format_exception(error)).rstrip())
    hint = as_called(error.hint)
    place = {key: value for key in _PLACE if (value := getattr(error, key, None))}
    complain(f"Error: {printable(error.message, lines=True)}")
    for line in [*str(place.get("excerpt", "")).splitlines(), *hint.splitlines()]:
        complain(printable(line, lines=True))
    if is_json(ctx):
        out_json({"error": {"type": type(error).__name__, "message": error.message, "hint": hint, **place}})


def as_called(hint: str) -> str:
    """A hint whose commands work as printed for whoever called us: with the same program and the same app."""
    return calling.spelled(hint, Caller.here().words)
