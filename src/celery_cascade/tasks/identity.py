"""Which process this is, so that another one on the same machine can tell for certain whether it is gone.

Read from Linux's /proc. Where there is none (macOS, Windows) the answers are None, and a dead worker is found by the
age of its heartbeat instead: some seconds later, nothing else changes.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from celery_cascade.persistence.rows import WorkerRow

#: States of a process that has ended but was not collected by its parent.
ENDED = frozenset("ZX")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What /proc says of a process.

    Args:
        state: one letter: R runs, S sleeps, Z is a zombie, …
        started: clock ticks between the machine's boot and the process's start. A pid is used again, the pair is not.
    """

    state: str
    started: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where a process id means what it says: on one machine, since one boot, in one pid namespace."""

    host: str
    boot_id: str | None
    pid_namespace: str | None
    pid: int
    started: str | None


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def me() -> Identity:
    """This process. Asked anew at each call, since a forked child is another one."""
    return Identity(
        host=host(),
        boot_id=_boot_id(),
        pid_namespace=_pid_namespace(),
        pid=os.getpid(),
        started=started_at(os.getpid()),
    )


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def parse_stat(line: str) -> Seen | None:
    """A line of /proc/PID/stat. The program's name stands in parentheses and may itself hold any character."""
    fields = line.rpartition(")")[2].split()
    if len(fields) < 20:
        return None
    return Seen(state=fields[0], started=fields[19])  # fields 3 and 22 of the manual page


def look_at(pid: int) -> Seen | None:
    """A process of this namespace; None if there certainly is none with this id.

    Raises:
        OSError: it cannot be told (no /proc, or it hides other users' processes).
    """
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        _check_there_is_none(pid)
        return None
    seen = parse_stat(line)
    if seen is None:
        raise OSError(f"/proc/{pid}/stat cannot be read: {line!r}")
    return seen


def _check_there_is_none(pid: int) -> None:
    """Pass if the kernel, too, knows no such process: under `hidepid` /proc leaves out what is another user's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    raise OSError(f"process {pid} exists, but /proc does not show it")


def started_at(pid: int) -> str | None:
    """When a process began; None if it is not there or this cannot be told."""
    try:
        seen = look_at(pid)
    except OSError:
        return None
    return None if seen is None else seen.started


def runner_id(pid: int) -> str | None:
    """The name under which a process claims steps: "<pid>.<start time>"; None where there is no /proc."""
    started = started_at(pid)
    return None if started is None else f"{pid}.{started}"


def gone_for_certain(
    row: WorkerRow, mine: Identity | None = None, *, look: Callable[[int], Seen | None] = look_at
) -> bool:
    """Whether the worker's process has ended, without a doubt.

    True lets its steps be taken over at once. It is False for a worker of another machine, boot or container, and
    whenever anything is unknown: then the age of its heartbeat decides.
    """
    mine = mine or me()
    if None in (row.boot_id, row.pid_namespace, row.process_started, mine.boot_id, mine.pid_namespace):
        return False
    if (row.boot_id, row.pid_namespace) != (mine.boot_id, mine.pid_namespace):
        return False
    try:
        seen = look(row.pid)
    except OSError:
        return False
    return seen is None or seen.started != row.process_started or seen.state in ENDED


def new_worker_row(
    *,
    worker_id: str,
    nodename: str,
    pool: str | None,
    capacity: int,
    tasks: Iterable[str],
    queues: Iterable[str] | None = None,
) -> WorkerRow:
    """The row of a worker that this process is.

    Args:
        worker_id: random, of this incarnation.
        nodename: Celery's `name@host`.
        pool: prefork, threads, solo, …
        capacity: most messages that it holds in memory at once, which are lost with it.
        tasks: names of the tasks that it knows; Celery's own are left out.
        queues: names of the queues that it consumes; None = it takes no messages.
    """
    mine = me()
    return WorkerRow(
        id=worker_id,
        nodename=nodename,
        host=mine.host,
        pid=mine.pid,
        boot_id=mine.boot_id,
        pid_namespace=mine.pid_namespace,
        process_started=mine.started,
        pool=pool,
        capacity=capacity,
        tasks=json.dumps(sorted(name for name in tasks if not name.startswith("celery."))),
        queues=None if queues is None else json.dumps(sorted(queues)),
    )
