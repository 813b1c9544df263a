"""How long a session stands still when its worker is killed with SIGKILL; default settings."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from statistics import median

from measure import processes, servers
from measure.options import Options
from measure.tables import Table

#: From here on a worker may take another for dead because of its silence alone: `cascade_heartbeat_timeout` and a bit.
WITNESS = 17.0
#: Workers beat and look for orphans so often; the kill is to strike at any point of it.
INTERVAL = 5.0


def measure(options: Options) -> Table:
    rounds = 1 if options.quick else options.rounds
    rows: dict[str, list[float]] = {}

    def note(what: str, seconds: float) -> None:
        rows.setdefault(what, []).append(seconds)
        options.say(f"{what}: {seconds:.2f} s")

    with servers.redis_database() as broker, servers.fresh_postgresql() as store:
        place = processes.Place(options.folder("recovery"), broker, store)
        for number in range(rounds):
            _restart(place, f"restart{number}", note)
        with processes.worker(place, "durable", "second") as second:
            second.wait_until_ready()
            for number in range(rounds):
                _take_over(place, f"same{number}", note, apart=False)
            if not options.quick and _can_be_apart():
                processes.wait_a_moment(WITNESS)
                for number in range(rounds):
                    _take_over(place, f"apart{number}", note, apart=True)
    return _table(rows)


Note = Callable[[str, float], None]


def _restart(place: processes.Place, label: str, note: Note) -> None:
    """The only worker is killed in the middle of a step, and started again."""
    with processes.worker(place, "durable", "only") as worker:
        worker.wait_until_ready()
        processes.client(place, "hold", "--label", label)
        killed = worker.kill()
    with processes.worker(place, "durable", "only") as worker:
        ready = worker.wait_until_ready()
        resumed = _resumed(place, label)
    note("restart on the same machine: worker ready → step runs again", resumed - ready)
    note("the same, from SIGKILL (Celery's own start included)", resumed - killed)


def _take_over(place: processes.Place, label: str, note: Note, *, apart: bool) -> None:
    """Two workers; the one that runs the step is killed."""
    with processes.worker(place, "durable", f"first-{label}", apart=apart) as first:
        first.wait_until_ready()
        processes.client(place, "hold", "--label", label, "--not-by", "second@bench")
        processes.wait_a_moment(random.uniform(0, INTERVAL))
        killed = first.kill()
    where = "another machine or container, of which only the silence shows" if apart else "the same machine"
    note(f"SIGKILL → a second worker runs the step; {where}", _resumed(place, label) - killed)


def _resumed(place: processes.Place, label: str) -> float:
    moment: float = processes.wait_for(lambda: place.marks().get(f"resumed:{label}"), "the step to run again", 120)
    return moment


def _can_be_apart() -> bool:
    """Whether a worker can have a process namespace of its own."""
    if shutil.which("unshare") is None or os.name != "posix":
        return False
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _table(rows: dict[str, list[float]]) -> Table:
    return Table(
        title="After SIGKILL",
        headings=["", "median s", "max s", "rounds"],
        rows=[
            [what, f"{median(seconds):.2f}", f"{max(seconds):.2f}", str(len(seconds))] for what, seconds in rows.items()
        ],
        notes=[
            "the worker's whole process group is killed while a step runs; the step's message is lost with it",
            "heartbeat settings are the defaults: a beat every 5 s, dead after 15 s, a look for orphans every 5 s",
            "the kill strikes at a random point of those 5 s",
        ],
        raw=rows,
    )
