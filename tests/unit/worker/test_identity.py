from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from celery_cascade.persistence.rows import WorkerRow
from celery_cascade.tasks import identity
from celery_cascade.tasks.identity import Identity, Seen, gone_for_certain, parse_stat

MINE = Identity(host="h", boot_id="boot", pid_namespace="pid:[1]", pid=1, started="5")
ALIVE = Seen(state="S", started="77")


def row(**changes) -> WorkerRow:
    values = {"boot_id": "boot", "pid_namespace": "pid:[1]", "process_started": "77"} | changes
    return WorkerRow(id="w", nodename="n@h", host="h", pid=40, **values)


def gone(worker: WorkerRow, seen: Seen | None, mine: Identity = MINE) -> bool:
    return gone_for_certain(worker, mine, look=lambda _: seen)


def test_a_process_that_is_there_is_not_gone():
    assert not gone(row(), ALIVE)


@pytest.mark.parametrize(
    "seen",
    [None, Seen(state="S", started="78"), Seen(state="Z", started="77"), Seen(state="X", started="77")],
    ids=["no such process", "its id is another's now", "zombie", "dead"],
)
def test_a_process_that_has_ended_is_gone(seen):
    assert gone(row(), seen)


@pytest.mark.parametrize(
    "changes",
    [{"boot_id": "other"}, {"pid_namespace": "pid:[2]"}, {"boot_id": None}, {"pid_namespace": None},
     {"process_started": None}],
)  # fmt: skip
def test_of_another_machine_or_of_the_unknown_nothing_is_certain(changes):
    assert not gone(row(**changes), None)


def test_where_there_is_no_proc_nothing_is_certain():
    blind = Identity(host="h", boot_id=None, pid_namespace=None, pid=1, started=None)
    assert not gone(row(boot_id=None, pid_namespace=None), None, blind)
    assert not gone(row(), None, blind)


def test_a_process_that_cannot_be_looked_at_is_not_gone():
    def hidden(pid: int) -> Seen | None:
        raise OSError("hidepid")

    assert not gone_for_certain(row(), MINE, look=hidden)


@pytest.mark.parametrize("name", ["cat", "a b", "x) S 1 2 (y", "tab\tand)paren", ")"])
def test_a_program_may_be_called_anything(name):
    rest = " ".join(["S", *[str(number) for number in range(4, 22)], "991", *["0"] * 30])
    assert parse_stat(f"17 ({name}) {rest}\n") == Seen(state="S", started="991")


def test_a_line_that_is_cut_off_says_nothing():
    assert parse_stat("17 (cat) S 1 2") is None


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc here")
def test_a_real_process_is_seen_alive_as_a_zombie_and_gone():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        me = identity.me()
        worker = row(boot_id=me.boot_id, pid_namespace=me.pid_namespace, process_started=identity.started_at(child.pid))
        worker = WorkerRow(**{name: getattr(worker, name) for name in worker.__slots__} | {"pid": child.pid})
        assert not gone_for_certain(worker)
        assert identity.runner_id(child.pid) == f"{child.pid}.{worker.process_started}"
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not collected
        assert gone_for_certain(worker)
    assert gone_for_certain(worker)
    assert identity.runner_id(child.pid) is None


def test_a_worker_row_names_the_users_tasks_and_ours():
    made = identity.new_worker_row(
        worker_id="w", nodename="n@h", pool="prefork", capacity=4, tasks=["shop.b", "celery.chord", "shop.a"]
    )
    assert json.loads(made.tasks or "") == ["shop.a", "shop.b"]
    assert (made.pid, made.capacity, made.process_started) == (os.getpid(), 4, identity.started_at(os.getpid()))
