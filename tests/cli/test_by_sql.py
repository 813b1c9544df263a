"""R126: a session can be read without the application, by anybody with a database driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli.kit import Project

SKIPS = """\
cascade: skips   # é
inputs: {deep: {type: object, default: {a: [1, {b: null}]}}}
steps:
  - {id: first, task: shop.echo, with: {value: "{{ inputs.deep }}"}}
  - {id: never, task: shop.echo, when: "{{ false }}"}
  - {id: last, phase: büro, task: shop.add, needs: [first, never], with: {x: 1}}
output: {"naïve": "{{ outputs.last }}"}
"""


def by_sql(url: str, *session_ids: str) -> list[dict[str, Any]]:
    script = Path(__file__).with_name("by_sql.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(script), url, *session_ids], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_show_json_can_be_rebuilt_from_sql_alone(make_project, database_url: str) -> None:
    """R126, D5: tables and views hold everything that `show --json` says, on every database."""
    project: Project = make_project(cascade_database_url=database_url)
    assert project.run("migrate", "up").exit_code == 0
    (project.folder / "skips.yaml").write_text(SKIPS, encoding="utf-8")
    waits = project.cascades.start(
        "order.yaml",
        {"n": 3},
        name="waits",
        tags=["x", "ÿ"],
        thread_id="t",
        resource_id="r",
        mode="copilot",
        expires_in=600,
    )
    cancelled = project.started()
    assert project.run("cancel", cancelled, "--reason", "no need").exit_code == 0
    doubtful, answered = project.in_doubt(), project.in_doubt()
    assert project.run("resume", answered, "--done", '{"x": 1}').exit_code == 0
    sessions = [project.ended(), project.ended("broken.yaml"), project.ended("skips.yaml"), waits.id, cancelled]
    sessions += [doubtful, answered]
    shown = [project.json("show", session_id)["session"] for session_id in sessions]
    assert [found["status"] for found in shown] == [
        "completed", "failed", "completed", "active", "cancelled", "suspended", "active",
    ]  # fmt: skip
    assert by_sql(database_url, *sessions) == shown
