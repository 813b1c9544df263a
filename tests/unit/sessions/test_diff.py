"""Two sessions side by side, as plain data."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celery_cascade.definition.cascade import Source
from celery_cascade.sessions.diff import PARTS, Side, compare
from celery_cascade.sessions.parting import Parting, parting

NOON = datetime(2030, 5, 17, 12, tzinfo=UTC)
BODY = "cascade: order\nsteps:\n  - {id: load, task: load}\n  - {id: charge, task: charge}\n"


def at(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def step(name: str, status: str = "succeeded", *, ended: float = 1, **more: Any) -> dict[str, Any]:
    done = status in ("succeeded", "failed", "skipped")
    values = {
        "step": name,
        "item": None,
        "status": status,
        "reason": None,
        "attempt": 1,
        "error": None,
        "output": 1 if status == "succeeded" else None,
        "started_at": at(ended - 0.5) if done and status != "skipped" else None,
        "finished_at": at(ended) if done else None,
    }
    return values | more


def side(*steps: dict[str, Any], body: str = BODY, context: dict[str, Any] | None = None, **more: Any) -> Side:
    source = Source(body=body.encode(), format="yaml", path="/srv/order.yaml")
    session: dict[str, Any] = {
        "session_id": "one",
        "cascade_id": "order",
        "name": None,
        "status": "completed",
        "reason": None,
        "error": None,
        "inputs": {"n": 1},
        "output": {"sum": 3},
        "definition_sha256": source.digest,
        "created_at": at(0),
        "started_at": at(0),
        "finished_at": at(9),
        "steps": list(steps) or [step("load"), step("charge", ended=2)],
    }
    return Side(session=session | more, definition=source, context=context or {})


def test_what_is_the_same_is_the_same_however_long_it_took() -> None:
    slow = side(step("load", ended=5), step("charge", ended=60), finished_at=at(3600), session_id="two")
    found = compare(side(), slow)
    assert (found["same"], found["differs"]) == (True, [])
    assert found["durations"]["total"] == {"a": 9.0, "b": 3600.0}
    assert [one["step"] for one in found["durations"]["steps"]] == ["load", "charge"]


@pytest.mark.parametrize(
    ("other", "part", "change"),
    [
        ({"inputs": {"n": 2}}, "inputs", {"path": "inputs.n", "a": 1, "b": 2}),
        ({"output": {"sum": 4}}, "outputs", {"path": "output.sum", "a": 3, "b": 4}),
        ({"context": {"seen": 1}}, "context", {"path": "context.seen", "b": 1}),
        ({"status": "expired"}, "status", {"path": "status", "a": "completed", "b": "expired"}),
        ({"error": {"message": "no"}}, "status", {"path": "error", "a": None, "b": {"message": "no"}}),
    ],
)  # fmt: skip
def test_each_part_tells_its_differences_by_path(other: dict[str, Any], part: str, change: dict[str, Any]) -> None:
    found = compare(side(), side(**other))
    assert part in found["differs"]
    assert not found["same"]
    assert change in found[part]


def test_outputs_differ_at_their_paths() -> None:
    lines = [side(step("charge", output={"lines": [n]})) for n in (3, 4)]
    assert compare(*lines)["outputs"] == [{"path": "outputs.charge.lines[0]", "a": 3, "b": 4}]


def test_an_edited_definition_is_shown_as_a_unified_diff() -> None:
    found = compare(side(), side(body=BODY.replace("task: charge", "task: bill")), only=["definition"])
    assert found["differs"] == ["definition"]
    assert found["definition"]["a"]["sha256"] != found["definition"]["b"]["sha256"]
    assert "-  - {id: charge, task: charge}\n+  - {id: charge, task: bill}\n" in found["definition"]["diff"]
    assert "inputs" not in found


def test_where_the_file_lay_is_no_difference() -> None:
    moved = Source(body=BODY.encode(), format="yaml", path="/elsewhere/order.yaml")
    here, there = side(), Side(session=side().session, definition=moved, context={})
    found = compare(here, there)
    assert found["same"]
    assert found["definition"]["b"]["config_path"] == "/elsewhere/order.yaml"


def test_the_way_taken_tells_what_ran_was_skipped_and_was_not_reached() -> None:
    a = side(step("load"), step("charge", ended=2), step("mail", ended=3))
    b = side(step("load"), step("charge", "skipped", ended=2), step("mail", "pending"))
    found = compare(a, b)["path"]
    assert found["a"] == ["load", "charge", "mail"]
    assert found["changes"] == [
        {"path": "path.charge", "a": "ran", "b": "skipped"},
        {"path": "path.mail", "a": "ran"},
    ]


def test_another_order_of_steps_that_do_not_need_each_other_is_told_and_no_difference() -> None:
    found = compare(side(), side(step("load", ended=2), step("charge", ended=1.5)))
    assert found["same"]
    assert (found["path"]["b"], found["path"]["same_order"]) == (["charge", "load"], False)


def test_a_step_that_needed_more_attempts_differs_and_a_kept_one_does_not() -> None:
    a, b = side(step("load", attempt=3)), side(step("load"))
    assert compare(a, b)["steps"] == [{"path": "steps.load.attempt", "a": 3, "b": 1}]
    assert compare(a, side(step("load", reason="kept")))["steps"] == []


def test_a_step_that_only_one_has_is_told_whole() -> None:
    found = compare(side(step("load")), side(step("load"), step("mail", ended=3)))
    assert found["steps"] == [{"path": "steps.mail", "b": {"status": "succeeded", "attempt": 1, "error": None}}]
    assert found["outputs"] == [{"path": "outputs.mail", "b": 1}]


def test_a_fork_tells_where_it_parts_and_what_it_kept() -> None:
    origin = side(step("load"), step("charge", "failed", ended=2), status="failed")
    fork = side(step("load", reason="kept"), step("charge", ended=8), session_id="two")
    where = Parting(session_id="one", version=3, step="charge", how="fork")
    found = compare(origin, fork, where)
    assert found["parts_at"] == {"session_id": "one", "version": 3, "step": "charge", "how": "fork", "kept": ["load"]}


def test_everything_is_json() -> None:
    json.dumps(
        compare(side(), side(step("load", "failed")), Parting(session_id="x", version=0, step=None, how="rerun"))
    )


def test_ten_thousand_steps_are_compared() -> None:
    a, b = (side(*(step(f"s{n}", output=n * more) for n in range(10_000))) for more in (1, 2))
    found = compare(a, b)
    assert len(found["outputs"]) == 9_999
    assert list(found)[-len(PARTS) :] == list(PARTS)


# -- where they part
def row(session_id: str, origin: str | None = None, version: int | None = None, **more: Any) -> dict[str, Any]:
    values = {"forked_step": None, "trigger": "fork" if origin else "cli"}
    return {"session_id": session_id, "forked_from": origin, "forked_version": version, **values, **more}


ORIGIN = row("o")
FORK = row("f", "o", 3, forked_step="charge")


def test_sessions_without_a_common_origin_do_not_part() -> None:
    assert parting([ORIGIN], [row("x")]) is None
    assert parting([ORIGIN], [ORIGIN]) is None


def test_a_fork_and_its_origin_part_at_the_step_of_the_fork() -> None:
    expected = Parting(session_id="o", version=3, step="charge", how="fork")
    assert parting([ORIGIN], [FORK, ORIGIN]) == parting([FORK, ORIGIN], [ORIGIN]) == expected


def test_two_forks_part_at_the_earlier_one() -> None:
    late = row("g", "o", 7, forked_step="mail")
    assert parting([FORK, ORIGIN], [late, ORIGIN]) == Parting(session_id="o", version=3, step="charge", how="fork")


def test_a_fork_of_a_fork_parts_from_the_first_where_the_fork_between_did() -> None:
    again = row("h", "f", 5, forked_step="mail")
    assert parting([ORIGIN], [again, FORK, ORIGIN]) == Parting(session_id="o", version=3, step="charge", how="fork")
    nothing_kept = row("h", "f", 0)
    found = parting([ORIGIN], [nothing_kept, FORK, ORIGIN])
    assert found is not None
    assert found.version == 0


def test_a_rerun_parts_from_its_origin_at_the_start() -> None:
    rerun = row("r", "o", None, trigger="rerun")
    assert parting([ORIGIN], [rerun, ORIGIN]) == Parting(session_id="o", version=0, step=None, how="rerun")


def test_forks_of_an_origin_that_was_deleted_still_know_it() -> None:
    found = parting([row("f", "gone", 3)], [row("g", "gone", 5)])
    assert found is not None
    assert (found.session_id, found.version) == ("gone", 3)
