"""What a worker writes down that has dropped a message for want of its task, and whom a newer one wakes."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from celery_cascade.config import CascadeConfig
from celery_cascade.persistence.rows import QueuedStep, StepKey, WorkerRow
from celery_cascade.tasks import unknown_task
from celery_cascade.tasks.attempt import StepRef

REF = StepRef(store="mine", session="s1", step="a", item=-1, attempt=2, task_id="t")
TEXT = "worker old@host does not know the task 'shop.new'"


def row(tasks: str, silent_for: float = 0.0, pool: str = "solo") -> WorkerRow:
    return WorkerRow(id="w", nodename="w@h", host="h", pid=1, tasks=tasks, silent_for=silent_for, pool=pool)


def runtime(delay: float | None = 5.0, rows: tuple[WorkerRow, ...] = (), **settings: Any) -> Any:
    calls: list[Any] = []

    def delay_unknown(key: StepKey, attempt: int, *, first: float) -> float | None:
        calls.append((key, attempt, first))
        return delay

    def wake_known(tasks: set[str]) -> int:
        calls.append(sorted(tasks))
        return len(tasks)

    store = SimpleNamespace(delay_unknown=delay_unknown, wake_known=wake_known, running_workers=lambda: list(rows))
    return SimpleNamespace(store=store, store_id="mine", config=CascadeConfig(**settings), calls=calls)


def test_the_drop_is_written_and_told_with_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    made = runtime()
    unknown_task.delay(made, REF, TEXT)
    assert made.calls == [(StepKey("s1", "a"), 2, 5.0)]
    assert f"session s1: step a: {TEXT}; its message is sent again in 5 s" in caplog.text
    assert "cascade show s1" in caplog.text
    assert "cascade cancel s1" in caplog.text


def test_the_first_delay_is_no_longer_than_that_of_a_lost_message() -> None:
    made = runtime(resend_after=2.0)
    unknown_task.delay(made, REF, TEXT)
    assert made.calls == [(StepKey("s1", "a"), 2, 2.0)]


def test_a_step_that_somebody_has_by_now_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        unknown_task.delay(runtime(delay=None), REF, TEXT)
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_message_of_another_store_delays_nothing_here(caplog: pytest.LogCaptureFixture) -> None:
    """R158: two stores may have sessions of the same id."""
    made = runtime()
    made.store_id = "another"
    unknown_task.delay(made, REF, TEXT)
    assert made.calls == []
    assert "another store" in caplog.text


def test_what_living_workers_know_is_woken() -> None:
    rows = (row('["a", "b"]'), row('["dead"]', silent_for=99.0), row('["c"]'), row('["h"]', pool="here"))
    made = runtime(rows=rows)
    assert unknown_task.wake(made, ["mine"]) == 4
    assert made.calls == [["a", "b", "c", "mine"]]


class Publisher:
    def __init__(self) -> None:
        self.sent: list[list[str]] = []

    def send(self, steps: list[QueuedStep]) -> int:
        self.sent.append([step.key.step for step in steps])
        return len(steps)


def test_a_dropped_message_is_sent_some_more_times_until_it_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on Redis: an older worker that is idle is served first, every time."""
    pauses: list[float] = []
    monkeypatch.setattr(unknown_task, "sleep", pauses.append)
    made = runtime(rows=(row('["known"]'),))
    made.publisher = Publisher()
    steps = [
        QueuedStep(key=StepKey("s1", name), task=task, dropped=True)
        for name, task in (("a", "known"), ("b", "known"), ("c", "nobody's"))
    ]
    unclaimed = [{"a", "b"}, {"b"}, {"b"}]
    made.store.still_unclaimed = lambda keys: {key for key in keys if key.step in unclaimed[len(pauses) - 1]}
    assert unknown_task.insist(made, steps) == 4
    assert made.publisher.sent == [["a", "b"], ["b"], ["b"]]
    assert all(0.15 <= pause <= 0.45 for pause in pauses)
    assert len(set(pauses)) == 3  # else workers that look at intervals meet each in the same order
    assert unknown_task.insist(made, []) == 0
    assert unknown_task.insist(made, steps[2:]) == 0, "nobody knows it: one message is enough"
