"""`cascade demo` as somebody meets it who has just installed the package."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

COMMAND = [sys.executable, "-m", "celery_cascade.cli", "demo"]
SECONDS = 60


def environment(**extra: str) -> dict[str, str]:
    """No home to write to, no colours asked for, and the settings of somebody else's production."""
    foreign = {
        "CELERY_BROKER_URL": "redis://production.invalid/0",
        "CELERY_CASCADE_DATABASE_URL": "postgresql://x.invalid/y",
    }
    return {**os.environ, "HOME": "/nonexistent", **foreign, **extra}


@dataclass(frozen=True, kw_only=True)
class Told:
    """A demo that has ended."""

    place: Path
    code: int
    text: str
    seconds: float

    @property
    def folder(self) -> Path:
        return self.place / ("cascade-demo-2" if (self.place / "cascade-demo-2").exists() else "cascade-demo")

    @property
    def log(self) -> str:
        return (self.folder / "worker.log").read_text(encoding="utf-8")

    @property
    def runs(self) -> list[dict[str, str]]:
        with (self.folder / "runs.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))


def tell(place: Path, *, command: list[str] = COMMAND, **extra: str) -> Told:
    began = time.monotonic()
    env = environment(**extra)
    done = subprocess.run(
        command, cwd=place, env=env, capture_output=True, text=True, encoding="utf-8", timeout=2 * SECONDS
    )
    took = time.monotonic() - began
    return Told(place=place, code=done.returncode, text=done.stdout + done.stderr, seconds=took)


def processes_in(folder: Path) -> list[psutil.Process]:
    """Who works in this folder and lives."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    place = tmp_path_factory.mktemp("demo") / "a b #1 50% é"
    (place / "cascade-demo").mkdir(parents=True)  # of an earlier one
    return tell(place, PYTHONIOENCODING="utf-8")


def test_it_ends_well_and_under_a_minute(told: Told):
    assert told.code == 0, told.text
    assert told.seconds < SECONDS
    assert "FAILED" not in told.text
    assert told.text.count("✓ ") >= 9
    assert str(told.folder) in told.text


def test_its_worker_is_really_killed_and_another_goes_on(told: Told):
    assert len(re.findall(r"first@\S+ ready\.", told.log)) == 1
    assert len(re.findall(r"second@\S+ ready\.", told.log)) == 1
    first, second = told.log.split("second@", 1)
    assert "Warm shutdown" not in first
    assert "Warm shutdown" in second
    killed = {run["pid"] for run in told.runs[:4]}
    assert killed.isdisjoint({run["pid"] for run in told.runs[4:]})
    assert processes_in(told.folder) == []


def test_its_files_say_that_only_the_interrupted_step_ran_twice(told: Told):
    assert sorted((run["step"], run["attempt"]) for run in told.runs) == [
        ("charge", "1"), ("invoice", "1"), ("label", "1"), ("notify", "1"), ("pack", "1"),
        ("pick", "1"), ("pick", "2"), ("reserve", "1"),
    ]  # fmt: skip
    assert len((told.folder / "ledger.csv").read_text().splitlines()) == 2
    assert len((told.folder / "orders" / "7" / "picking.csv").read_text().splitlines()) == 9


def test_it_goes_on_within_two_seconds_where_the_kernel_tells_who_is_gone(told: Told):
    (seconds,) = re.findall(r"the session goes on, ([\d.]+) s after the worker was ready", told.text)
    if Path("/proc/self/stat").exists():
        assert float(seconds) < 2


def test_it_prints_no_colours_where_nobody_looks(told: Told):
    assert "\x1b" not in told.text


@pytest.mark.parametrize("on_path", [True, False], ids=["cascade on PATH", "not on PATH"])
def test_its_next_commands_work_as_printed(told: Told, tmp_path: Path, on_path: bool):
    """In a copy, so that each test finds the folder as the demo left it."""
    if on_path and not Path(sys.executable).with_name("cascade").exists():
        pytest.skip("the console script is not installed in this environment")
    last_words = told.text.split("To go on from here:")[1].splitlines()
    commands = [line.strip() for line in last_words if line.startswith("  ")]
    assert len(commands) == 5  # cd, unset, and three to try
    if on_path:
        commands = [re.sub(r"^(\S+/cascade|\S+ -m celery_cascade\.cli)\b", "cascade", command) for command in commands]
    place = tmp_path / "copy"
    shutil.copytree(told.place, place)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e"], input="\n".join(commands), cwd=place, env=environment(PATH=path), capture_output=True, text=True,
        encoding="utf-8", timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "R-00008" in done.stdout
    assert "pick" in done.stdout
    assert (place / told.folder.name / "orders" / "8" / "invoice.txt").is_file()


def test_it_leaves_an_earlier_folder_alone(told: Told):
    assert told.folder.name == "cascade-demo-2"
    assert list((told.place / "cascade-demo").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_worker_outlives_a_demo_that_is_interrupted(tmp_path: Path, number: signal.Signals):
    with subprocess.Popen(
        COMMAND, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        encoding="utf-8",
    ) as demo:  # fmt: skip
        assert demo.stdout is not None
        for line in demo.stdout:
            if "pick     runs on first" in line:
                assert len(processes_in(tmp_path / "cascade-demo")) >= 3
                demo.send_signal(number)
        assert demo.wait(SECONDS) == 130
    assert processes_in(tmp_path / "cascade-demo") == []


BLIND = """
from celery_cascade.tasks import recovery
recovery.recover = lambda *args, **kwargs: recovery.RecoveryReport()
"""
REPEATING = """
note = note_run
def note_run(task):
    note(task)
    if task == "pack":
        run = {"moment": "2026-01-01", "session": current_session().id, "attempt": 1, "pid": 1, "step": "reserve"}
        append(HERE / "runs.csv", **run)
"""
BROKEN = """
raise RuntimeError("no such luck")
"""

#: What is wrong -> lines at the end of shop.py that make it so, and what the demo has to say.
FAULTS = {
    "recovery finds nothing": (BLIND, "in vain until the session went on with 'pick'"),
    "a finished step runs again": (REPEATING, "each of the other 6 steps ran exactly once (reserve: 2 runs)"),
    "the project cannot be imported": (BROKEN, "no such luck"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_fails_loudly_when_something_is_not_so_and_in_ascii_where_there_is_nothing_else(tmp_path: Path, fault: str):
    code, message = FAULTS[fault]
    script = (
        "from celery_cascade.demo import run, run_demo, story\n"
        "make = run.make_folder\n"
        "def with_a_fault(wanted):\n"
        "    folder = make(wanted)\n"
        f"    with (folder / 'shop.py').open('a') as file: file.write({code!r})\n"
        "    return folder\n"
        "run.make_folder = with_a_fault\n"
        "story.SECONDS_TO_GO_ON = 6.0\n"
        "raise SystemExit(run_demo())\n"
    )
    told = tell(tmp_path, command=[sys.executable, "-c", script], PYTHONIOENCODING="ascii")
    assert told.code == 1, told.text
    assert told.text.isascii()
    assert "FAILED" in told.text
    assert message in told.text
    assert "celery-cascade " in told.text.split("bug report")[1]
    assert processes_in(told.folder) == []


def test_it_refuses_a_folder_that_holds_something(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    told = tell(tmp_path, command=[*COMMAND, str(tmp_path)])
    assert told.code == 2
    assert "is not empty" in told.text
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
