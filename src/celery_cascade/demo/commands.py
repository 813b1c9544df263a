"""The commands that the demo ends with: they work as printed, in the shell and the folder where it ran."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from celery_cascade.demo.folder import foreign_settings


def next_commands(folder: Path, session_id: str) -> list[str]:
    """A change of folder, and three commands to try there."""
    cascade = cascade_command()
    foreign = foreign_settings()
    unset = [f"unset {' '.join(foreign)}"] if foreign else []
    return [
        f"cd {shlex.quote(_near(folder))}",
        *unset,
        f"{cascade} -A shop show {session_id}",
        f"{cascade} -A shop ls",
        f"{cascade} -A shop run order.yaml -i order_id=8 --local",
    ]


def cascade_command() -> str:
    """How this very installation's `cascade` is called from here; by its name alone if the shell finds it so."""
    script = Path(sys.executable).with_name("cascade")
    found = shutil.which("cascade")
    if found and (not script.exists() or Path(found).samefile(script)):
        return "cascade"
    if script.exists():
        return shlex.quote(str(script))
    return f"{shlex.quote(sys.executable)} -m celery_cascade.cli"


def _near(folder: Path) -> str:
    """The path as one would type it here."""
    here = Path(os.path.realpath(Path.cwd()))
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
