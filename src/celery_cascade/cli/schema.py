"""`cascade schema`: the format of cascade files as a JSON Schema."""

from __future__ import annotations

import click

from celery_cascade.cli.options import Verb, json_option
from celery_cascade.cli.words import out_value

_EXAMPLE = ("cascade schema > cascade.schema.json",)


@click.command(cls=Verb, example=_EXAMPLE)
@json_option
def schema(as_json: bool) -> None:
    """Print the format of cascade files as a JSON Schema (draft 2020-12), for editors.

    Editors with the YAML language server (VS Code's YAML extension, Neovim, JetBrains and others) complete keys and
    mark what is wrong in a file that begins with the line
    "# yaml-language-server: $schema=cascade.schema.json". `cascade validate` finds more.
    """
    from celery_cascade.definition.format_schema import format_schema

    out_value(format_schema())
