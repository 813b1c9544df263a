"""What a run stands on: a folder with the application, and servers of its own."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import private, warm
from support.chaos.shapes import SHAPES
from support.private import Server
from support.stacks import parts
from support.warm import environment

PROGRAMS = Path(__file__).parent / "programs"
MAKE_TABLES = """
from proj import cascades
from celery_cascade.persistence import migrate
migrate.upgrade(cascades.runtime.open_database())
"""
TIMEOUT = 3.0  #: seconds of silence after which a worker counts as dead here

SETTINGS = {
    "cascade_heartbeat_interval": 0.5,
    "cascade_heartbeat_timeout": TIMEOUT,
    "cascade_timer_interval": 0.5,
    "cascade_orphan_interval": 0.5,
    "cascade_resend_after": 1.0,
    "cascade_max_crashes": 1000,
}


@dataclass(frozen=True)
class Ground:
    """One stack."""

    folder: Path
    broker: Server | None  # None = the embedded one
    database: Server | None

    @property
    def servers(self) -> list[Server]:
        return [server for server in (self.broker, self.database) if server is not None]

    @property
    def database_url(self) -> str:
        return self.database.url if self.database else f"sqlite:///{self.folder / '.cascade' / 'store.sqlite'}"

    def file(self, shape: str) -> Path:
        return self.folder / f"{shape}.yaml"


def settings_of(rng: random.Random) -> dict[str, Any]:
    """The settings of a run: the short times of all of them, and what Celery's users do differently by the seed."""
    return {
        **SETTINGS,
        "worker_prefetch_multiplier": rng.choice([1, 4]),
        "task_acks_late": rng.choice([True, False]),
    }


@contextmanager
def ground(stack: str, folder: Path, settings: Mapping[str, Any]) -> Iterator[Ground]:
    """Start the servers, write the application, make the tables."""
    with ExitStack() as opened:
        needed = parts(stack)
        broker = opened.enter_context(private.require(needed.broker)) if needed.has_server else None
        has_server = needed.database != "sqlite"
        database = opened.enter_context(private.require(needed.database)) if has_server else None
        folder.mkdir(parents=True, exist_ok=True)
        for program in PROGRAMS.glob("*.py"):
            shutil.copy(program, folder)
        found = dict(settings) | ({"cascade_database_url": database.url} if database else {})
        (folder / "settings.json").write_text(json.dumps({"broker": broker.url if broker else None, "settings": found}))
        made = Ground(folder, broker, database)
        for shape in SHAPES:
            made.file(shape.name).write_text(shape.text)
        done = warm.run(["-c", MAKE_TABLES], cwd=folder, env=environment(), timeout=120)
        assert done.returncode == 0, done.stderr
        yield made
