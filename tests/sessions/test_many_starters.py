"""Eight processes that start sessions on one SQLite file as fast as they can (R125)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.kit import Kit
from support.cluster import environment

PROCESSES = 8
#: All of R125: CASCADE_STARTS=1250 pytest tests/sessions/test_many_starters.py
STARTS = int(os.environ.get("CASCADE_STARTS", "100"))

STARTER = """
import sys, time
from pathlib import Path
from sessions.kit import Kit
url, folder, name, count = sys.argv[1:]
kit = Kit(url, Path(folder))
print("ready", flush=True)
sys.stdin.readline()
longest = 0.0
for number in range(int(count)):
    began = time.perf_counter()
    kit.start("a", "b", session_id=f"{name}-{number}")
    longest = max(longest, time.perf_counter() - began)
print(f"longest {longest:.3f}", flush=True)
"""


@pytest.mark.slow
def test_eight_processes_start_sessions_on_sqlite_and_none_meets_a_lock(
    sqlite_store: str, tmp_path: Path, make_kit: Callable[..., Kit]
) -> None:
    """R125: no "database is locked" reaches a caller, and every session is there."""
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), env["PYTHONPATH"]])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, sqlite_store, str(tmp_path), f"p{number}", str(STARTS)],
            env=env, text=True, **pipes,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    try:
        for starter in starters:
            assert starter.stdout is not None
            assert starter.stdout.readline() == "ready\n"
        told = [starter.communicate("go\n", timeout=300) for starter in _released(starters)]
    finally:
        for starter in starters:
            starter.kill()
            starter.wait()
    assert [starter.returncode for starter in starters] == [0] * PROCESSES, told
    assert all("locked" not in err and "waiting for the store" not in err for _, err in told)
    longest = max(float(re.findall(r"longest ([\d.]+)", out)[0]) for out, _ in told)
    assert longest < 30, f"one start took {longest} s"
    kit = make_kit(sqlite_store)
    assert kit.store.open_counts() == {"active": PROCESSES * STARTS}
    assert kit.sql("SELECT count(*) FROM session_steps")[0][0] == PROCESSES * STARTS
    assert kit.sql("PRAGMA integrity_check")[0][0] == "ok"


def _released(starters: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """All at once."""
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    return starters
