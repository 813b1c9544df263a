"""The demo's checks turn red when something is not as it should be, one by one."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from celery_cascade.demo import checks
from celery_cascade.demo.checks import Evidence
from celery_cascade.demo.order import EXPECTED

SESSION = "0d5e1b7f-5375-408e-98f2-4a65bd77c10a"
STEPS = ["reserve", "charge", "pick", "label", "pack", "invoice", "notify"]
FILE = (resources.files("celery_cascade.demo") / "project" / "order.yaml").read_bytes()


def step(name: str, status: str, attempt: int = 1, crashes: int = 0) -> dict[str, Any]:
    times = {"started_at": "2026-11-20T14:21:46.5Z", "finished_at": "2026-11-20T14:21:47Z"}
    return {"step": name, "status": status, "attempt": attempt, "crashes": crashes, "worker": "first@vm", **times}


@pytest.fixture
def good(tmp_path: Path) -> Evidence:
    """What a demo leaves when all is well."""
    runs = [(1, 11, "reserve"), (1, 12, "charge"), (1, 11, "pick"), (1, 12, "label"), (2, 21, "pick"), (1, 22, "pack")]
    runs += [(1, 21, "invoice"), (1, 22, "notify")]
    lines = [f"2026-11-20T14:21:46.5+00:00,{SESSION},{attempt},{pid},{name}\n" for attempt, pid, name in runs]
    (tmp_path / "runs.csv").write_text("moment,session,attempt,pid,step\n" + "".join(lines))
    (tmp_path / "ledger.csv").write_text(f"key,order,cents,pid\n{SESSION}:charge:0,7,10040,12\n")
    (tmp_path / "order.yaml").write_bytes(FILE)
    papers = tmp_path / "orders" / "7"
    papers.mkdir(parents=True)
    for name in ["parcel.json", "label.svg", "invoice.txt", "mail.eml"]:
        (papers / name).write_text("paper")
    picked = "".join(f"{SESSION}:pick:0,article{n},{11 if n < 3 else 21}\n" for n in range(8))
    (papers / "picking.csv").write_text("key,article,pid\n" + picked)
    words = {"pick": "running", "pack": "pending", "invoice": "pending", "notify": "pending"}
    before = {"session_id": SESSION, "steps": [step(name, words.get(name, "succeeded")) for name in STEPS]}
    after = {
        "session_id": SESSION,
        "status": "completed",
        "output": EXPECTED,
        "definition_sha256": hashlib.sha256(FILE).hexdigest(),
        "steps": [step(n, "succeeded", 2 if n == "pick" else 1, int(n == "pick")) for n in STEPS],
    }
    return Evidence(folder=tmp_path, before=before, after=after, definition=FILE, exit_code=-9)


def red(evidence: Evidence) -> set[str]:
    return {
        name
        for name in ["killed", "completed", "ran_once", "ran_twice", "picked_once", "charged_once", "not_repeated",
                     "same_definition", "same_result"]
        if not getattr(checks, name)(evidence).good
    }  # fmt: skip


def test_all_are_green_when_all_is_well(good: Evidence):
    assert red(good) == set()
    assert [check.good for check in checks.check_all(good)] == [True] * 9


def add_line(name: str, line: str) -> Callable[[Evidence], None]:
    def doctor(evidence: Evidence) -> None:
        with (evidence.folder / name).open("a") as file:
            file.write(line + "\n")

    return doctor


def missing(name: str) -> Callable[[Evidence], None]:
    return lambda evidence: (evidence.folder / name).unlink()


def in_after(path: list[Any], value: Any) -> Callable[[Evidence], None]:
    def doctor(evidence: Evidence) -> None:
        at: Any = evidence.after
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return doctor


MOMENT = f"2026-11-20T14:21:55+00:00,{SESSION}"


@pytest.mark.parametrize(
    ("doctor", "expected"),
    [
        pytest.param(add_line("runs.csv", f"{MOMENT},1,22,reserve"), {"ran_once"}, id="finished step ran again"),
        pytest.param(add_line("runs.csv", f"{MOMENT},3,22,pick"), {"ran_twice"}, id="a third attempt"),
        pytest.param(
            add_line("orders/7/picking.csv", f"{SESSION}:pick:0,article3,21"), {"picked_once"}, id="picked twice"
        ),
        pytest.param(add_line("ledger.csv", f"{SESSION}:charge:0,7,10040,22"), {"charged_once"}, id="charged twice"),
        pytest.param(add_line("order.yaml", "# changed"), {"same_definition"}, id="another definition"),
        pytest.param(in_after(["status"], "failed"), {"completed"}, id="failed"),
        pytest.param(in_after(["output"], None), {"same_result"}, id="no result"),
        pytest.param(in_after(["steps", 0, "attempt"], 2), {"not_repeated"}, id="row of a finished step touched"),
        pytest.param(in_after(["steps", 2, "crashes"], 0), {"ran_twice"}, id="crash not counted"),
        pytest.param(in_after(["definition_sha256"], "0" * 64), {"same_definition"}, id="another digest"),
        pytest.param(missing("orders/7/label.svg"), {"same_result"}, id="a paper is missing"),
        pytest.param(missing("runs.csv"), {"ran_once", "ran_twice"}, id="no record of runs"),
    ],
)
def test_each_turns_red_for_its_own_fault_alone(good: Evidence, doctor: Callable[[Evidence], None], expected: set[str]):
    evidence = dataclasses.replace(good, after=copy.deepcopy(good.after))
    doctor(evidence)
    assert red(evidence) == expected


@pytest.mark.parametrize("code", [0, -15, None])
def test_a_worker_that_was_not_killed_by_sigkill_is_no_proof(good: Evidence, code: int | None):
    assert red(dataclasses.replace(good, exit_code=code)) == {"killed"}


def test_nothing_finished_before_the_kill_is_no_proof(good: Evidence):
    before = json.loads(json.dumps(good.before).replace('"succeeded"', '"pending"'))
    assert red(dataclasses.replace(good, before=before)) == {"not_repeated"}
