"""The guard in real workers, on a real broker, with a runner that only takes notes."""

from __future__ import annotations

import pytest

from integration.guard.proj import read_lines

pytestmark = [pytest.mark.integration, pytest.mark.broker_server]

POOLS = ["prefork", "solo", "threads"]


@pytest.mark.parametrize("pool", POOLS)
def test_steps_of_every_kind_are_claimed_run_and_checkpointed(workers, pool):
    """Guard: bound, decorated, annotated, shared, registered late, with late acks and no result."""
    worker = workers[pool]
    calls = {"bound": 42, "decorated": 142, "shared": 42, "late": 42, "late-acks": 42}
    sent = {worker.runner.send(task, 41): given for task, given in calls.items()}
    sent[worker.runner.send("annotated")] = 1
    for session, given in sent.items():
        assert worker.notes(session, "succeed") == [("claim", 0), ("succeed", given)]


@pytest.mark.parametrize("pool", POOLS)
def test_a_retry_is_another_attempt_and_no_message_of_celerys(workers, pool):
    """Guard: `self.retry` and `autoretry_for`, with their arguments and their count."""
    worker = workers[pool]
    retries, autoretries = worker.runner.send("retries", 1), worker.runner.send("autoretries")
    assert worker.notes(retries, "succeed") == [
        ("claim", 0), ("retry", 0.0), ("claim", 1), ("retry", 0.0), ("claim", 2), ("succeed", 3),
    ]  # fmt: skip
    assert worker.notes(autoretries, "succeed") == [("claim", 0), ("retry", 0.0), ("claim", 1), ("succeed", "up")]
    for attempt in (1, 2):  # Celery stores the state after the guard has ended the attempt
        worker.wait(lambda attempt=attempt: worker.app.AsyncResult(f"{retries}-{attempt}").state == "RETRY")


def test_steps_are_claimed_in_processes_that_are_started_afresh(workers):
    """Guard: the app is pickled for them; unguarded, they would run the body with no arguments and no claim."""
    worker = workers["spawn"]
    bound, retries = worker.runner.send("bound", 41), worker.runner.send("retries", 1)
    assert worker.notes(bound, "succeed") == [("claim", 0), ("succeed", 42)]
    assert worker.notes(retries, "succeed")[-2:] == [("claim", 2), ("succeed", 3)]


def test_failures_are_the_runners_to_judge(workers):
    """Guard: tried again when it gives a delay; then Celery shows RETRY, and FAILURE in the end."""
    worker = workers["prefork"]
    session, gives_up = worker.runner.send("fails-once"), worker.runner.send("gives-up")
    worker.wait(lambda: [word for word, _ in worker.runner.notes(session)].count("fail") == 2)
    first, second = (worker.app.AsyncResult(f"{session}-{attempt}") for attempt in (1, 2))
    worker.wait(second.ready)
    assert (first.state, second.state) == ("RETRY", "FAILURE")
    assert f"[cascade] session {session}, step fails-once, attempt 2; resume with: " in second.traceback
    assert worker.notes(gives_up, "fail")[-1] == ("fail", "OSError")


def test_ignore_and_reject_are_heard(workers):
    """Guard: skipped; queued again by SQL, the message acked; failed."""
    worker = workers["prefork"]
    ignored, later, never = (worker.runner.send(*call) for call in (["ignores"], ["rejects", True], ["rejects", False]))
    assert worker.notes(ignored, "skip") == [("claim", 0), ("skip", None)]
    assert worker.notes(later, "requeue") == [("claim", 0), ("requeue", 5.0)]
    assert worker.notes(never, "fail") == [("claim", 0), ("fail", "Reject")]


def test_a_soft_time_limit_is_a_failure(workers):
    worker = workers["prefork"]
    soft = worker.runner.send("soft")
    assert worker.notes(soft, "fail") == [("claim", 0), ("fail", "SoftTimeLimitExceeded")]


def test_a_hard_time_limit_gives_the_step_back_or_leaves_the_claim_open(workers):
    """Guard: the pool sends SIGTERM, and 0.1 s later SIGKILL: a body in Python is heard of, one busy in C is not.

    Recovery finds the open claim; the worker goes on.
    """
    worker = workers["prefork"]
    hard, deaf = worker.runner.send("hard"), worker.runner.send("hard-and-deaf")
    assert worker.notes(hard, "abandon") == [("claim", 0), ("abandon", "SystemExit")]
    worker.wait(lambda: "Hard time limit (1s) exceeded for hard-and-deaf" in worker.log.read_text())
    after = worker.runner.send("bound", 1)
    assert worker.notes(after, "succeed")[-1] == ("succeed", 2)
    assert worker.runner.notes(deaf) == [("claim", 0)]


def test_a_body_that_exits_gives_its_step_back(workers):
    worker = workers["prefork"]
    session = worker.runner.send("exits")
    assert worker.notes(session, "abandon") == [("claim", 0), ("abandon", "SystemExit")]


def test_a_message_that_comes_twice_runs_once(workers):
    """Guard: the second is refused by the claim and leaves no trace in Celery's results."""
    worker = workers["prefork"]
    session = worker.runner.send("bound", 1)
    worker.notes(session, "succeed")
    worker.runner.publish(session, "bound", {"args": [1], "retries": 0, "failures": 0, "task": "bound"})
    assert worker.notes(session, "refused") == [("claim", 0), ("succeed", 2), ("refused", None)]
    assert worker.app.AsyncResult(f"{session}-1").get(timeout=5) == 2


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_that_a_step_sends_and_calls_are_of_the_session_but_not_the_step(workers, pool):
    worker = workers[pool]
    session = worker.runner.send("spawns")
    assert worker.notes(session, "succeed")[-1] == ("succeed", "called in a step")
    seen = worker.wait(lambda: read_lines(worker.folder / "seen.jsonl", what="spawned by a step"))
    assert seen == [{"what": "spawned by a step", "session": session, "step": False}]


MEMBERS = """spawned, chain 1, chain 2, chain 3, group 1, group 2, header 1, header 2.1, header 2.2, body, before,
in chain 1, in chain 2, after, linking, linked, error link, retried, by name""".replace("\n", " ").split(", ")


def test_the_session_reaches_every_member_of_every_canvas(workers):
    """CELERY.md 0.7: headers given to apply_async reach the first task only; ours reach all, replaced ones included."""
    worker = workers["prefork"]
    worker.app.tasks["tree"].apply_async(headers={"cascade_session": "order-7"})
    wanted = sorted([*MEMBERS, "replaced", "replaced, then"])
    path = worker.folder / "seen.jsonl"

    def seen():
        lines = [line for line in read_lines(path) if line["what"] in wanted]
        return lines if len(lines) >= len(wanted) else None

    lines = worker.wait(seen)
    assert sorted(line["what"] for line in lines) == wanted
    assert [line for line in lines if (line["session"], line["step"]) != ("order-7", False)] == []
