"""What `show`, `ls` and `doctor` say of a step that waits for a worker which knows its task (D2, `worker_lost`)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from celery_cascade.cli.lacking import Knowledge
from celery_cascade.persistence.rows import StepKey, WorkerRow
from cli.kit import Project

OWN = '["shop.add", "shop.echo"]'


def living(project: Project, worker_id: str, tasks: str | None, queues: str | None = '["celery"]') -> None:
    row = WorkerRow(id=worker_id, nodename=f"{worker_id}@host", host="elsewhere", pid=1, pool="solo", tasks=tasks,
                    queues=queues)  # fmt: skip
    project.runtime.store.add_worker(row)


def drop(project: Project, session_id: str) -> None:
    assert project.runtime.store.delay_unknown(StepKey(session_id, "one"), 1, first=5.0) == 5.0


def told(project: Project, session_id: str) -> tuple[Any, Any, Any]:
    """The reason of the session in `show` and in `ls`, and that of its first step."""
    shown = project.json("show", session_id)["session"]
    (listed,) = [one for one in project.json("ls")["sessions"] if one["session_id"] == session_id]
    return shown["reason"], listed["reason"], shown["steps"][0]["reason"]


def test_no_living_worker_knows_the_task_is_said_everywhere(project: Project) -> None:
    """DESIGN 4: the reason shown. The session stays active: nothing has to resume it."""
    session_id = project.started()
    living(project, "old", '["shop.echo"]')
    why = "no living worker knows task shop.add"
    of_session, of_list, of_step = told(project, session_id)
    assert (of_session, of_list) == (why, why)
    assert of_step.startswith(f"{why}; sent again in ")
    assert f"Status    active, {why}\n" in project.run("show", session_id).stdout
    assert f"queued ({why}; sent again in " in project.run("show", session_id).stdout
    assert f"active, {why}" in project.run("ls").stdout
    (check,) = [check for check in project.json("doctor")["checks"] if check["name"] == "task"]
    assert check["state"] == "warning"
    assert check["message"] == f"1 queued step of task shop.add: {why}"
    assert "goes on by itself" in check["hint"]
    assert project.run("doctor").exit_code == 0


def test_an_older_worker_beside_a_newer_one_is_named(project: Project) -> None:
    """Only once it has dropped a message: before, the step waits for its turn."""
    session_id = project.started()
    living(project, "old", '["shop.echo"]')
    living(project, "new", OWN)
    living(project, "apart", '["shop.echo"]', '["mails"]')
    assert told(project, session_id) == (None, None, None)
    drop(project, session_id)
    why = "worker old@host does not know task shop.add"
    assert told(project, session_id)[:2] == (why, why)
    assert re.fullmatch(rf"{why}; sent again in [1-5]\.\d s", told(project, session_id)[2])
    (check,) = [check for check in project.json("doctor")["checks"] if check["name"] == "task"]
    assert check["message"] == f"1 queued step of task shop.add: {why}"
    assert "Restart the older worker" in check["hint"]


def test_a_worker_that_dropped_a_message_and_is_gone_is_told_without_its_name(project: Project) -> None:
    session_id = project.started()
    living(project, "new", OWN)
    drop(project, session_id)
    assert told(project, session_id)[0] == "the worker that got its message did not know task shop.add"


def test_without_any_worker_that_is_the_reason(project: Project) -> None:
    session_id = project.started()
    drop(project, session_id)
    assert project.json("ls")["sessions"][0]["reason"].startswith("no living worker for ")
    assert "no living worker for " in project.run("show", session_id).stdout
    assert not [check for check in project.json("doctor")["checks"] if check["name"] == "task"]


def test_a_task_that_is_known_is_no_news(project: Project) -> None:
    session_id = project.started()
    living(project, "new", OWN)
    assert told(project, session_id) == (None, None, None)
    assert not [check for check in project.json("doctor")["checks"] if check["name"] == "task"]


@pytest.mark.parametrize(
    ("workers", "lacks", "older"),
    [
        ([], False, []),
        ([("a", ["x"], ["q"])], False, []),
        ([("a", ["y"], ["q"])], True, []),
        ([("a", None, None)], False, []),
        ([("a", ["x"], ["q"]), ("b", ["y"], ["q", "r"])], False, ["b@h"]),
        ([("a", ["x"], ["q"]), ("b", ["y"], ["r"])], False, []),
        ([("a", ["x"], None), ("b", ["y"], ["r"]), ("c", [], ["r"])], False, ["b@h", "c@h"]),
    ],
)
def test_who_knows_a_task_is_read_from_the_rows(workers: list, lacks: bool, older: list[str]) -> None:
    rows = [
        WorkerRow(
            id=name, nodename=f"{name}@h", host="h", pid=1,
            tasks=None if tasks is None else json.dumps(tasks),
            queues=None if queues is None else json.dumps(queues),
        )
        for name, tasks, queues in workers
    ]  # fmt: skip
    knowledge = Knowledge(rows)
    assert (knowledge.lacks("x"), knowledge.older("x")) == (lacks, older)
