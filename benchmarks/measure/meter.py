"""CPU time of the processes that take part, as the kernel counts it; and what the rest of the machine did meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import psutil


def cpu_of_tree(pid: int) -> float:
    """CPU seconds of a process, of its children that live, and of those that it has waited for."""
    try:
        process = psutil.Process(pid)
        return sum(_cpu(member) for member in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0.0


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return sum(getattr(times, name, 0.0) for name in ("user", "system", "children_user", "children_system"))


def machine_busy() -> float:
    """CPU seconds of all processes of the machine so far."""
    times = psutil.cpu_times()
    return times.user + times.system + times.nice + getattr(times, "irq", 0) + getattr(times, "softirq", 0)


class Meter:
    """CPU seconds between `start` and `stop`.

    Args:
        trees: name -> the process whose tree is meant.
        sets: name -> a function that gives the processes of a set, none with children (a database's backends). One
            that ends in between is not counted.
    """

    def __init__(self, trees: Mapping[str, int], sets: Mapping[str, Callable[[], Iterable[int]]]) -> None:
        self._trees, self._sets = trees, sets

    def start(self) -> None:
        self._before = self._snap()
        self._machine, self._began = machine_busy(), time.monotonic()

    def stop(self) -> dict[str, float]:
        """CPU seconds by name; `others`: all other processes' share of the machine, 0 to 1."""
        seconds, busy = time.monotonic() - self._began, machine_busy() - self._machine
        after = self._snap()
        used = {
            name: sum(cpu - self._before[name].get(pid, 0.0) for pid, cpu in pids.items())
            for name, pids in after.items()
        }
        others = max(0.0, busy - sum(used.values())) / (seconds * (psutil.cpu_count() or 1))
        return used | {"others": others}

    def _snap(self) -> dict[str, dict[int, float]]:
        found = {name: {pid: cpu_of_tree(pid)} for name, pid in self._trees.items()}
        for name, pids in self._sets.items():
            found[name] = {pid: _cpu(psutil.Process(pid)) for pid in pids() if psutil.pid_exists(pid)}
        return found
