"""`cascade init`: a small project that works, to begin with."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from importlib import resources
from pathlib import Path

import click

from celery_cascade.cli.options import Verb, json_option
from celery_cascade.cli.words import is_json, out, out_json, printable, say
from celery_cascade.errors import CascadeError, UsageError

#: What is written -> where it is in the package; None = made.
FILES = {
    "proj.py": "proj.py",
    "order.yaml": "order.yaml",
    "cascade.schema.json": None,
    "test_order.py": "test_order.py",
    "README.md": "README.md",
    ".gitignore": "gitignore",
}


class FilesInTheWay(CascadeError):
    """What would be written is there already."""

    exit_code = 4


@click.command(
    cls=Verb, example=("cascade init orders", "cascade init orders --json"), exits={4: "a file is in the way"}
)
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Write a small working project into DIR (default: here): an app, a cascade file, a test, a README.

    Needs no app and no server. Nothing that is there is ever overwritten: if any of its files exists, nothing is
    written.
    """
    write(folder)
    commands = next_commands(folder)
    if is_json(click.get_current_context()):
        out_json({"folder": str(folder.resolve()), "files": list(FILES), "commands": commands})
        return
    for name in FILES:
        out(printable(str(folder / name)))
    say("\nNext, the worker in a terminal of its own:")
    for command in commands:
        say(f"  {printable(command)}")


def write(folder: Path) -> None:
    """Write the project, all of it or nothing.

    Raises:
        FilesInTheWay: one of its files exists.
        UsageError: the folder cannot be written to.
    """
    texts = {name: _text(source) for name, source in FILES.items()}
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there:
        raise FilesInTheWay(
            f"{printable(str(folder))} has {', '.join(there)} already; nothing was written",
            hint="Name a folder that is new: cascade init orders",
        )
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
                written.append(folder / name)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink()
        raise UsageError(
            f"{printable(str(folder))} cannot be written to: {error.strerror or error}",
            hint="Name another folder: cascade init orders",
        ) from error


def _text(source: str | None) -> str:
    if source is None:
        from celery_cascade.definition.format_schema import format_schema

        return json.dumps(format_schema(), ensure_ascii=False, indent=2) + "\n"
    return (resources.files("celery_cascade.cli") / "project" / source).read_text(encoding="utf-8")


def next_commands(folder: Path) -> list[str]:
    """What to type next: it works as printed, in this shell and with this installation."""
    celery = _program("celery", "celery")
    here = folder.resolve() == Path.cwd()
    return [
        *([] if here else [f"cd {shlex.quote(str(folder))}"]),
        f"{celery} -A proj worker",
        f"{celery} -A proj cascade run order.yaml -i order_id=7",
        f"{celery} -A proj cascade ls",
        f"{_program('python', 'python')} -m pytest",
    ]


def _program(name: str, module: str) -> str:
    """By its name alone if the shell finds the one of this very environment so, else by its path."""
    script, found = Path(sys.executable).with_name(name), shutil.which(name)
    if found and (not script.exists() or Path(found).samefile(script)):
        return name
    return shlex.quote(str(script)) if script.exists() else f"{shlex.quote(sys.executable)} -m {module}"
