"""How a body ends, what the runner is told, and what Celery shows."""

from __future__ import annotations

import logging
import traceback

import pytest
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded, WorkerShutdown

from celery_cascade.errors import CascadeError, ClaimLost, NotSerializable, PayloadTooLarge, StoreUnavailable
from unit.guard.recording import Published, deliver_step, guarded_app


@pytest.fixture
def proj():
    """An app whose task `end` raises what is put into `ending`."""
    app, runner = guarded_app()
    ending = []

    @app.task(shared=False, name="end")
    def end():
        if ending:
            raise ending[0]
        return "fine"

    return app, runner, ending


def test_a_failure_for_good_is_celerys_failure(proj):
    app, runner, ending = proj
    ending.append(ValueError("no"))
    done = deliver_step(app, "end")
    assert done.stored == "FAILURE"
    assert runner.told[1:] == [("fail", ending[0])]


def test_the_traceback_of_a_final_failure_ends_with_how_to_go_on(proj):
    """R161: session, step, attempt, resume command."""
    app, _, ending = proj
    ending.append(ValueError("no"))
    done = deliver_step(app, "end")
    last = str(app.AsyncResult(done.id).traceback).rstrip().splitlines()[-1]
    assert last.startswith("[cascade] session order-7, step charge, attempt 1; resume with: ")
    assert last.endswith("cascade resume order-7")
    deliver_step(app, "end", item=3)  # the same exception object again
    text = "".join(traceback.format_exception(ending[0]))
    assert text.count("[cascade]") == 1
    assert "step charge[3]" in text


def test_an_exception_that_takes_no_note_is_raised_all_the_same(proj):
    app, _, ending = proj

    class Stubborn(Exception):
        def add_note(self, note):
            raise TypeError("no notes")

    ending.append(Stubborn())
    assert deliver_step(app, "end").state == "FAILURE"


def test_a_failure_that_is_tried_again_is_celerys_retry(proj):
    """Guard: SQL holds the timer; Celery shows RETRY and publishes nothing."""
    app, runner, ending = proj
    ending.append(ValueError("later"))
    runner.delay_after_failure = 2.5
    with Published() as published:
        done = deliver_step(app, "end")
    assert done.stored == "RETRY"
    assert str(done.info.retval) == "Retry in 2.5s: ValueError('later')"
    assert published.names == []
    assert not hasattr(ending[0], "__notes__")  # it has not ended yet


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded(), MemoryError(), RecursionError()])
def test_time_limits_and_the_like_are_failures_like_any(proj, error):
    app, runner, ending = proj
    ending.append(error)
    assert deliver_step(app, "end").stored == "FAILURE"
    assert runner.told[1:] == [("fail", error)]


def test_ignore_skips_the_step(proj):
    app, runner, ending = proj
    ending.append(Ignore())
    done = deliver_step(app, "end")
    assert (done.state, done.stored) == ("IGNORED", "PENDING")
    assert runner.words == ["claim", "skip"]


def test_reject_with_requeue_queues_the_step_again_and_acks_the_message(proj):
    """Guard: the broker would give it back at once, and for ever."""
    app, runner, ending = proj
    ending.append(Reject("not here", requeue=True))
    assert deliver_step(app, "end").state == "IGNORED"
    assert runner.told[1:] == [("requeue", 5.0)]


def test_reject_without_requeue_fails_the_step(proj):
    app, runner, ending = proj
    ending.append(Reject("never"))
    assert deliver_step(app, "end").state == "REJECTED"
    assert runner.told[1:] == [("fail", ending[0])]


def test_reject_without_requeue_is_tried_again_if_the_step_says_so(proj):
    app, runner, ending = proj
    ending.append(Reject("never"))
    runner.delay_after_failure = 1.0
    assert deliver_step(app, "end").state == "RETRY"


def test_a_retry_made_by_hand_is_a_failure_that_says_what_to_do(proj):
    """Guard: Celery shows RETRY for it and never runs the task again."""
    app, runner, ending = proj
    ending.append(Retry("by hand"))
    assert deliver_step(app, "end").stored == "FAILURE"
    assert runner.words == ["claim", "fail"]
    assert isinstance(runner.last(), CascadeError)
    assert "self.retry" in runner.last().hint


class GreenletTimeout(BaseException):
    """As gevent.Timeout, which is no Exception either."""


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), WorkerShutdown(0), GeneratorExit(), GreenletTimeout()]
)
def test_an_exit_gives_the_step_back_and_goes_on_exiting(proj, error):
    app, runner, ending = proj
    ending.append(error)
    with pytest.raises(type(error)):
        deliver_step(app, "end")
    assert runner.told[1:] == [("abandon", error)]


def test_an_exit_is_not_held_up_by_a_database_that_is_away(proj):
    app, runner, ending = proj
    ending.append(SystemExit(1))
    runner.raises["abandon"] = StoreUnavailable("away")
    with pytest.raises(SystemExit):
        deliver_step(app, "end")


@pytest.mark.parametrize("word", ["succeed", "fail", "skip", "requeue", "retry"])
def test_a_lost_claim_ends_quietly_whatever_the_body_did(word, caplog):
    """Rule 2: the database refuses the zombie; one line in the log, nothing stored, nothing dispatched."""
    app, runner = guarded_app()
    endings = {"fail": ValueError(), "skip": Ignore(), "requeue": Reject(requeue=True)}

    @app.task(shared=False, name="end", bind=True)
    def end(self):
        if word == "retry":
            raise self.retry(countdown=1)
        if word in endings:
            raise endings[word]

    runner.raises[word] = ClaimLost("taken over")
    with caplog.at_level(logging.WARNING, "celery_cascade.tasks"):
        done = deliver_step(app, "end")
    assert (done.state, done.stored) == ("IGNORED", "PENDING")
    assert runner.words == ["claim", word]
    assert [record.levelname for record in caplog.records if "claim lost" in record.message] == ["WARNING"]


@pytest.mark.parametrize("error", [NotSerializable("set at $.x"), PayloadTooLarge("2 MB")])
def test_an_output_that_cannot_be_kept_is_celerys_failure(proj, error):
    """R83, R84: the runner has recorded it; nobody records it twice."""
    app, runner, _ = proj
    runner.raises["succeed"] = error
    done = deliver_step(app, "end")
    assert (done.stored, done.info.retval) == ("FAILURE", error)
    assert runner.words == ["claim", "succeed"]
    assert "cascade resume order-7" in error.__notes__[0]


@pytest.mark.parametrize("error", [StoreUnavailable("away"), SoftTimeLimitExceeded(), RuntimeError("bug")])
@pytest.mark.parametrize("word", ["succeed", "fail"])
def test_trouble_while_recording_gives_the_step_back(proj, word, error):
    app, runner, ending = proj
    if word == "fail":
        ending.append(ValueError())
    runner.raises[word] = error
    done = deliver_step(app, "end")
    assert (done.stored, done.info.retval) == ("FAILURE", error)
    assert runner.words == ["claim", word, "abandon"]


def test_an_exit_while_recording_gives_the_step_back_and_goes_on(proj):
    """A warm shutdown that has run out of patience, in the middle of a commit."""
    app, runner, _ = proj
    runner.raises["succeed"] = SystemExit()
    with pytest.raises(SystemExit):
        deliver_step(app, "end")
    assert runner.words == ["claim", "succeed", "abandon"]


def test_trouble_while_claiming_runs_no_body(proj):
    app, runner, _ = proj
    runner.raises["claim"] = StoreUnavailable("away")
    assert deliver_step(app, "end").stored == "FAILURE"
    assert runner.words == ["claim"]


def test_a_step_whose_result_is_ignored_is_checkpointed_all_the_same(proj):
    """Rule 1: the result backend has no part in it."""
    app, runner, _ = proj
    done = deliver_step(app, "end", ignore_result=True)
    assert runner.told[1:] == [("succeed", "fine")]
    assert done.stored == "PENDING"
