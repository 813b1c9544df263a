"""A rolling deploy: an older worker that does not know a step's task shares the queue with a newer one, or is alone."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from support.cases import QUICK, until
from support.cluster import Project, WorkerNode, wait_for

pytestmark = pytest.mark.integration

NEW_TASK = """

@app.task(name="proj.brand_new")
def brand_new(value=None):
    record("ran")
    return value
"""
MANY = 4
CASCADE = """\
cascade: deploy
steps:
  - {id: before, task: proj.work, with: [1]}
  - {id: added, task: proj.brand_new, with: ["{{ outputs.before }}"]}
  - {id: after, task: proj.work, with: ["{{ outputs.added }}"]}
"""


def deployed(make: Callable[..., Project]) -> tuple[Project, WorkerNode]:
    """A worker that runs the old code, and the new code beside it in the folder."""
    shop = make(cascade_resend_after=2, **QUICK)
    old = shop.worker("-P", "solo", name="old")
    with (shop.folder / "proj.py").open("a") as file:
        file.write(NEW_TASK)
    shop.start(shop.file(CASCADE), "s1")
    wait_for(lambda: "does not know the task 'proj.brand_new'; its message is sent again in" in old.logs(), "the drop")
    return shop, old


def cascade(shop: Project, *args: str) -> str:
    """What the command line says, run with the new code."""
    code = (
        "import sys; from click.testing import CliRunner; from celery_cascade.cli import cascade;"
        f" print(CliRunner().invoke(cascade, ['-A', 'proj', *{args!r}]).output)"
    )
    return shop.python(code).stdout


def test_a_step_that_only_newer_workers_know_waits_with_its_reason_and_goes_on_when_one_starts(
    project: Callable[..., Project],
) -> None:
    """R153: by itself and promptly, however long it had waited; nothing has failed."""
    shop, _ = deployed(project)
    why = "no living worker knows task proj.brand_new"
    shown = json.loads(cascade(shop, "show", "s1", "--json"))["session"]
    assert (shown["status"], shown["reason"]) == ("active", why)
    assert f"active, {why}" in cascade(shop, "ls")
    assert f"1 queued step of task proj.brand_new: {why}" in cascade(shop, "doctor")
    postpone(shop)  # as if it had been dropped for some minutes
    shop.worker("-P", "solo", name="new")
    took = wait_for(lambda: "added" in shop.runs("s1"), "the newer worker to run the step", 60)
    done = until(shop, "s1")
    assert shop.runs("s1") == ["before", "added", "after"]
    assert [(step["attempt"], step["crashes"]) for step in done["steps"]] == [(1, 0)] * 3
    assert took < 30, took  # the older one may still win the race a few times; without a wake it would be 5 minutes


def test_an_older_worker_beside_a_newer_one_costs_time_only(project: Callable[..., Project]) -> None:
    """The message goes to either; show names the older one as long as the step waits because of it."""
    shop, old = deployed(project)
    new = shop.worker("-P", "threads", "-c", "1", name="new")
    path = shop.folder / "order.yaml"
    starts = "; ".join(f"cascades.start({str(path)!r}, session_id='t{number}')" for number in range(MANY))
    shop.python(f"from proj import cascades; {starts}")

    def dropped() -> bool:
        reasons = [step["reason"] for n in range(MANY) for step in shop.show(f"t{n}")["steps"]]
        return "unknown_task" in reasons or all(shop.show(f"t{n}")["status"] == "completed" for n in range(MANY))

    wait_for(dropped, "the older worker to drop one of them, or luck")
    said = cascade(shop, "doctor") + cascade(shop, "ls")
    if any(shop.show(f"t{n}")["status"] == "active" for n in range(MANY)):
        assert f"worker {old.hostname()} does not know task proj.brand_new" in said
    for session in ("s1", *(f"t{number}" for number in range(MANY))):
        done = until(shop, session, seconds=120)  # who drops one thrice may wait 16 s
        assert shop.runs(session) == ["before", "added", "after"]
        assert [step["attempt"] for step in done["steps"]] == [1, 1, 1]
    assert "Traceback" not in new.logs()


def postpone(shop: Project) -> None:
    """The longest delay, as after ten drops."""
    with shop.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE session_steps SET sends = 10, wake_at = "
            + {
                "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now', '300 seconds')",
                "postgresql": "now() + interval '300 seconds'",
                "mysql": "date_add(utc_timestamp(6), interval 300 second)",
            }[shop.database.family].replace("%", "%%")
            + " WHERE status = 'queued'"
        )
