"""Cascades that several integration tests run, and how to wait for their end."""

from __future__ import annotations

from typing import Any

from support.cluster import Project, wait_for

DIAMOND = """\
cascade: order      # six steps, two branches that run side by side and join
inputs: {order_id: integer}
steps:
  - {id: first, task: proj.work, with: {value: "{{ inputs.order_id }}"}}
  - {id: left, task: proj.work, with: ["left"]}
  - {id: slow, task: proj.hold, with: ["{{ outputs.left }}"]}
  - {id: right, needs: [first], task: proj.work, with: ["{{ outputs.first }}"]}
  - {id: join, needs: [slow, right], task: proj.work, with: [["{{ outputs.slow }}", "{{ outputs.right }}"]]}
  - {id: last, task: proj.work, with: ["{{ outputs.join }}"]}
"""
QUICK = {"cascade_heartbeat_interval": 1, "cascade_heartbeat_timeout": 3, "cascade_orphan_interval": 1}


def until(project: Project, session_id: str, status: str = "completed", seconds: float = 40) -> dict[str, Any]:
    wait_for(lambda: project.show(session_id)["status"] == status, f"session to be {status}", seconds)
    return project.show(session_id)


def alone(project: Project, session_id: str, step: str, *, one_by_one: bool = False) -> None:
    """Wait until this step is in its body and no other is under way: a kill then costs one body and no other.

    Args:
        one_by_one: the worker runs one step at a time, so others may wait behind it.
    """
    busy = {"running"} if one_by_one else {"running", "queued"}

    def so() -> bool:
        if project.runs(session_id, "began") != [step]:
            return False
        return [found["step"] for found in project.show(session_id)["steps"] if found["status"] in busy] == [step]

    wait_for(so, f"step {step} to be the only one under way")
