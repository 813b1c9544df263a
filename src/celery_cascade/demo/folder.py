"""The demo's own little project: its folder, its app, and the settings of others that it must not follow."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from itertools import count
from pathlib import Path

from celery_cascade.app import Cascades
from celery_cascade.errors import UsageError

NAME = "cascade-demo"
FILES = ("shop.py", "order.yaml")

#: The demo must not reach the store or broker that these name: they may be somebody's production.
FOREIGN = (
    "CELERY_APP",
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
    "CELERY_CONFIG_MODULE",
    "CELERY_CASCADE_DATABASE_URL",
    "CELERY_CASCADE_HOME",
    "CELERY_CASCADE_WORKER",
)


def make_folder(wanted: Path | None) -> Path:
    """A new folder with the project in it: `wanted`, else `cascade-demo` here, with a number if that is there.

    Raises:
        UsageError: `wanted` holds something already, or no folder can be made there.
    """
    try:
        folder = _fresh() if wanted is None else _empty(wanted)
        for name in FILES:
            source = resources.files("celery_cascade.demo") / "project" / name
            (folder / name).write_bytes(source.read_bytes())
    except OSError as error:
        raise UsageError(f"the demo cannot write its folder: {error}", hint="Start it where you may write") from error
    return folder.resolve()


def _empty(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="Name a folder that is empty or not there yet")
    return folder


def _fresh() -> Path:
    for number in count(1):
        folder = Path.cwd() / (NAME if number == 1 else f"{NAME}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")


def remove_folder(folder: Path) -> None:
    """Take the folder away again."""
    shutil.rmtree(folder, ignore_errors=True)


def foreign_settings(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that lead Celery or us elsewhere."""
    return [name for name in FOREIGN if environ.get(name)]


@contextmanager
def own_settings() -> Iterator[None]:
    """Inside, this process and those that it starts follow the project's settings alone."""
    kept = {name: os.environ.pop(name) for name in FOREIGN if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def load_shop(folder: Path) -> Cascades:
    """Import the project as its own client would; what it calls `cascades`."""
    spec = importlib.util.spec_from_file_location("shop", folder / "shop.py")
    assert spec is not None
    assert spec.loader is not None
    shop = importlib.util.module_from_spec(spec)
    sys.modules["shop"] = shop
    spec.loader.exec_module(shop)
    cascades: Cascades = shop.cascades
    return cascades
