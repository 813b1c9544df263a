from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery import signals as celery_signals
from celery.exceptions import Retry, TimeLimitExceeded, WorkerLostError

from celery_cascade.tasks import signals, worker
from celery_cascade.tasks.attempt import STEP_HEADER, StepRef
from celery_cascade.tasks.facts import Facts

REF = StepRef(store="s", session="s1", step="a", item=-1, attempt=1, task_id="t1")
HEADERS = {STEP_HEADER: REF.as_header(), "id": "t1"}
REQUEST = SimpleNamespace(headers=HEADERS, id="t1")


@pytest.fixture
def app() -> Celery:
    return Celery("heard", set_as_current=False, broker="memory://")


@pytest.fixture
def facts(app: Celery) -> Iterator[Facts]:
    signals.connect(None)  # type: ignore[arg-type]
    found = Facts()
    signals.listen(app, found)
    yield found
    signals.deafen(app)


def heard(facts: Facts) -> list[tuple[str, str]]:
    return [(fact.ref.step, fact.reason) for fact in facts.rest()]


class Sender:
    """A task, or a consumer; Celery keeps senders in a dictionary."""

    def __init__(self, app: Celery, request: Any) -> None:
        self.app, self.request = app, request


def task_of(app: Celery, request: Any = REQUEST) -> Any:
    return Sender(app, request)


CASES: list[tuple[str, dict[str, Any], str | None]] = [
    ("task_failure", {"exception": WorkerLostError("signal 9 (SIGKILL)")}, "crash"),
    ("task_failure", {"exception": TimeLimitExceeded(1.0)}, "timeout"),
    ("task_failure", {"exception": ValueError("the guard has written it")}, None),
    ("task_retry", {"request": REQUEST}, "cancelled"),
    ("task_retry", {"request": REQUEST, "reason": Retry(exc=WorkerLostError("x"))}, "crash"),
    ("task_retry", {"request": REQUEST, "reason": Retry(exc=ValueError("x"))}, None),
    ("task_revoked", {"request": REQUEST, "terminated": True, "signum": 15, "expired": False}, "cancelled"),
    ("task_revoked", {"request": REQUEST, "terminated": False, "signum": None, "expired": False}, "dropped"),
    ("task_revoked", {"request": REQUEST, "terminated": False, "signum": None, "expired": True}, "dropped"),
    ("task_rejected", {"message": SimpleNamespace(headers=HEADERS), "exc": None}, "dropped"),
    ("task_unknown", {"message": SimpleNamespace(headers=HEADERS), "name": "shop.a", "id": "t1"}, "unknown"),
    ("task_internal_error", {"request": HEADERS, "einfo": None, "args": (), "kwargs": {}}, "crash"),
]


@pytest.mark.parametrize(("name", "sent", "reason"), CASES)
def test_each_signal_leaves_its_fact(app, facts, name, sent, reason):
    """R152: one test a row."""
    getattr(celery_signals, name).send(sender=task_of(app), task_id="t1", **sent)
    assert heard(facts) == ([] if reason is None else [("a", reason)])


def test_every_signal_with_a_handler_has_a_case_and_a_sentence():
    """R152: the table is whole."""
    assert {name for name, *_ in CASES} == set(signals.HANDLERS)
    assert set(signals.HANDLERS) | set(worker.HANDLERS) <= set(signals.RECORDED)


@pytest.mark.parametrize(
    "headers",
    [None, {}, {STEP_HEADER: None}, {STEP_HEADER: {"step": "a"}}, {STEP_HEADER: REF.as_header() | {"task_id": "t2"}}],
)
def test_what_is_no_step_of_ours_is_left_alone(app, facts, headers):
    request = SimpleNamespace(headers=headers, id="t1")
    celery_signals.task_failure.send(sender=task_of(app, request), task_id="t1", exception=WorkerLostError())
    assert heard(facts) == []


def test_another_app_in_the_same_process_is_not_listened_to(facts):
    other = Celery("other", set_as_current=False)
    celery_signals.task_retry.send(sender=task_of(other), request=REQUEST)
    assert heard(facts) == []


def test_a_request_that_celery_does_not_show_does_no_harm(app, facts):
    """The first of the two signals of a hard time limit comes without the request."""
    celery_signals.task_failure.send(
        sender=task_of(app, SimpleNamespace(headers=None)), task_id="t1", exception=TimeLimitExceeded(1.0)
    )
    assert heard(facts) == []
