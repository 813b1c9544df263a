"""`cascade crashtest`: what is printed where, how it ends, and that nothing of the user's is touched."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from celery_cascade.crash_points import CrashPoint
from cli.kit import Project, until

#: Nobody listens there.
NOWHERE = {
    "broker_url": "amqp://canary@127.0.0.1:1//",
    "cascade_database_url": "postgresql://canary@127.0.0.1:1/canary",
    "cascade_database_patience": 1.0,
}
QUICK = ("--points", "body,body_ended", "--in-body", "0")
CHECKS = """
from pathlib import Path

FILE = Path(__file__).with_name("sums.txt")

def sums():
    return FILE.read_text().split() if FILE.exists() else []

def empty():
    FILE.unlink(missing_ok=True)

def boom():
    raise ValueError("no rows")

number = 7
"""
MORE = """
@app.task(name="shop.note", shared=False)
def note(value):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "sums.txt"), "a") as file:
        file.write(f"{value} ")
    return value
"""

LOUD = """
@app.task(name="shop.loud", shared=False)
def loud():
    os.write(1, b"loud")
    print("louder")
"""


@pytest.fixture
def away(make_project: Any) -> Project:
    """A project whose servers are away, and whose task `shop.note` writes a line each time that it runs."""
    project: Project = make_project(**NOWHERE)
    with (project.folder / f"{project.name}.py").open("a") as file:
        file.write(MORE)
    name = f"checks_{project.name}"
    (project.folder / f"{name}.py").write_text(CHECKS)
    (project.folder / "note.yaml").write_text(
        "cascade: note\nsteps:\n  - {id: first, task: shop.add, with: [1]}\n"
        '  - {id: note, task: shop.note, with: ["{{ outputs.first }}"]}\n'
    )
    return project


def effects(project: Project) -> list[str]:
    return ["--effects", f"checks_{project.name}:sums", "--reset", f"checks_{project.name}:empty"]


def test_a_good_cascade_exits_0_with_its_table_though_store_and_broker_are_away(away: Project) -> None:
    """The table and the verdict are data, the rest is words."""
    result = away.run("crashtest", "order.yaml", "-i", "n=1", *QUICK)
    assert result.exit_code == 0, result.output
    heading, one, two, verdict = result.stdout.splitlines()
    assert heading.split()[:2] == ["STEP", "CRASHES"]
    assert re.match(r"one +2 +1 +not seen +not asked +same +went on +\d\.\d\d s \(\d\.\d\d s\)$", one)
    assert two.startswith("two ")
    assert verdict.startswith("All well: 4 crashes")
    assert "its tasks run for real" in result.stderr
    assert "Crashing it 4 times." in result.stderr
    assert "--effects" in result.stderr
    assert "canary" not in result.output
    assert {path.name for path in away.folder.glob(".cascade/*")} == set()


def test_a_doubled_effect_exits_1_and_names_step_and_point(away: Project) -> None:
    result = away.run("crashtest", "note.yaml", *QUICK, *effects(away))
    assert result.exit_code == 1
    assert re.search(r"^first +2 +1 +same ", result.stdout, re.MULTILINE)
    assert re.search(r"^note +2 +1 +differ +not asked +same +harm 1 ", result.stdout, re.MULTILINE)
    assert "  note, body_ended: effects.1: '2' came on top\n" in result.stdout


def test_json_has_every_row_and_every_crash(away: Project) -> None:
    found = away.json("crashtest", "note.yaml", *QUICK, *effects(away), code=1)["crashtest"]
    assert found["ok"] is False
    assert [(row["step"], row["crashes"], row["effects"]) for row in found["rows"]] == [
        ("first", 2, "same"),
        ("note", 2, "differ"),
    ]
    assert [trial["point"] for trial in found["trials"]] == ["body", "body_ended"] * 2
    assert [bool(trial["harm"]) for trial in found["trials"]] == [False, False, False, True]


def test_quiet_says_only_what_was_found(away: Project) -> None:
    result = away.run("crashtest", "note.yaml", *QUICK, *effects(away), "-q")
    assert result.stderr == ""


def test_the_sandbox_that_is_kept_holds_what_the_tasks_printed(
    away: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = away.run("crashtest", "order.yaml", "-i", "n=1", "--points", "body", "--in-body", "0", "--keep")
    kept = re.search(r"^The sandbox is kept: (.*)$", result.stderr, re.MULTILINE)
    assert kept, result.stderr
    assert (Path(kept[1]) / "run-0001" / "printed.txt").is_file()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, "Missing argument 'FILE'"),
        (["ordre.yaml"], 3, "order.yaml"),
        (["order.yaml"], 6, "needs the input 'n'"),
        (["order.yaml", "-i", "n=x"], 6, "'n' must be integer"),
        (["order.yaml", "-i", "n=1", "--points", "bodi"], 2, "no crash point 'bodi'; did you mean 'body'?"),
        (["order.yaml", "-i", "n=1", "--effects", "checks"], 2, "module:function"),
        (["order.yaml", "-i", "n=1", "--effects", "nowhere:rows"], 2, "'nowhere' cannot be loaded"),
        (["order.yaml", "-i", "n=1", "--effects", "CHECKS:sumz"], 2, "did you mean 'sums'?"),
        (["order.yaml", "-i", "n=1", "--effects", "CHECKS:number"], 2, "no function 'number'"),
        (["order.yaml", "-i", "n=1", "--effects", "CHECKS:boom"], 2, "boom() raised ValueError: no rows"),
        (["order.yaml", "-i", "n=1", "--in-body", "-1"], 2, "in-body"),
        (["order.yaml", "-i", "n=1", "--timeout", "0"], 2, "--timeout"),
        (["broken.yaml"], 1, "Not well, without any crash: the session is failed: ValueError: it is broken"),
    ],
)
def test_what_cannot_be_tested_is_told(away: Project, args: list[str], code: int, said: str) -> None:
    """R150: no traceback."""
    result = away.run("crashtest", *(arg.replace("CHECKS", f"checks_{away.name}") for arg in args))
    assert result.exit_code == code, result.output
    assert said in result.output
    assert "Traceback" not in result.output


def test_points_are_listed_with_their_sentences_without_an_app(away: Project) -> None:
    result = away.run("crashtest", "--list-points", app=False)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == len(CrashPoint) + 1
    assert re.search(r"^\* body +the body is about to begin$", result.stdout, re.MULTILINE)
    points = away.json("crashtest", "--list-points")["points"]
    assert points["ack"]["default"] is False


def test_ctrl_c_ends_it_with_all_its_processes(away: Project) -> None:
    process = away.start("crashtest", "sleepy.yaml", "-i", "seconds=60")
    try:
        until(lambda: bool(children_of(process.pid)))
        (child,) = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert not Path(f"/proc/{child}").exists()


def children_of(pid: int) -> list[int]:
    file = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in file.read_text().split()] if file.exists() else []
    return [child for child in found if os.getpgid(child) == child]


def test_a_process_of_its_own_prints_json_and_nothing_else(away: Project) -> None:
    """What the tasks print is not mixed in."""
    with (away.folder / f"{away.name}.py").open("a") as file:
        file.write(
            '\n@app.task(name="shop.loud", shared=False)\ndef loud():\n    os.write(1, b"loud"); print("louder")\n'
        )
    (away.folder / "loud.yaml").write_text("cascade: loud\nsteps:\n  - {id: a, task: shop.loud}\n")
    process = away.start("crashtest", "loud.yaml", *QUICK, "--json", env={"NO_COLOR": "1"})
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["crashtest"]["ok"] is True
    assert "loud" not in stderr
