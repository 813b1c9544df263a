"""A step whose worker died in the middle: it runs again, fails, or waits until somebody says what became of it (D2)."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from celery import chain

from celery_cascade import Session, events
from celery_cascade.errors import (
    CascadeError,
    NotResumable,
    NotSerializable,
    PayloadTooLarge,
    SessionConflict,
    SessionFailed,
    UsageError,
)
from celery_cascade.persistence.rows import StepKey
from celery_cascade.tasks import fate, recovery
from celery_cascade.tasks.attempt import StepRef
from sessions.kit import Kit, cascade

ASK = {"id": "a", "task": "dies", "on_crash": "ask"}


def dies(kit: Kit) -> None:
    """A task whose worker is found dead while the body of its first attempt runs."""

    @kit.task("dies")
    def body(*_: Any, **__: Any) -> str:
        if kit.ran[-1].endswith("/1"):
            kit.sql("UPDATE session_steps SET worker = 'gone' WHERE status = 'running' AND task = 'dies'")
            kit.recover()
            return "late"
        return "in time"


def step(session: Session, name: str) -> dict[str, Any]:
    return next(one for one in session.steps if one["step"] == name)


def doubtful(kit: Kit, *after: Any, **options: Any) -> Session:
    dies(kit)
    session = kit.start(ASK, *after, **options)
    kit.deliver()
    assert (session.status, session.reason) == ("suspended", "in_doubt")
    return session


def orphan(kit: Kit, session: Session, name: str, on_crash: str | None = "ask", attempt: int = 1) -> None:
    """A claim whose worker is gone."""
    key = StepKey(session.id, name)
    claim = kit.store.claim(
        key, attempt=attempt, token=f"{name}{attempt}", worker="gone", runner="1.1", on_crash=on_crash
    )
    assert claim is not None


# -- what recovery does
def test_a_step_that_asks_is_parked_and_not_run_again(any_kit: Kit) -> None:
    """R134, D2: the body may have done its work; nobody does it a second time without a word."""
    session = doubtful(any_kit, "b")
    assert any_kit.counts == {"a": 1}
    assert any_kit.recover().released == 0
    assert any_kit.deliver() == 0
    (waits,) = session.to_dict()["waits_for"]
    assert {name: waits[name] for name in ("step", "item", "reason", "attempt", "crashes", "worker")} == {
        "step": "a", "item": None, "reason": "in_doubt", "attempt": 1, "crashes": 1, "worker": None,
    }  # fmt: skip
    assert waits["began_at"] <= waits["lost_at"]
    assert waits["error"]["type"] == "WorkerLost"
    assert [(row["kind"], row["attempt"]) for row in session.attempts] == [("crash", 1)]


def test_a_step_that_fails_at_a_crash_ends_its_session_and_is_not_run_again(any_kit: Kit) -> None:
    """`on_crash: fail`: told once, with the type WorkerLost; the late worker is refused."""
    dies(any_kit)
    told: list[Any] = []

    @events.step_failed.connect(weak=False)
    def tell(sender: Any, step: str, attempt: int, error: Any, **_: Any) -> None:
        told.append((step, attempt, error["type"]))

    session = any_kit.start({"id": "a", "task": "dies", "on_crash": "fail", "retry": 5}, "b")
    any_kit.deliver()
    events.step_failed.disconnect(tell)
    assert session.status == "failed"
    assert told == [("a", 1, "WorkerLost")]
    failed = step(session, "a")
    assert (failed["status"], failed["crashes"], failed["error"]["type"]) == ("failed", 1, "WorkerLost")
    with pytest.raises(SessionFailed, match="WorkerLost"):
        session.result(timeout=0)
    assert any_kit.counts == {"a": 1}
    session.resume()  # a person has looked: a fresh budget
    any_kit.deliver()
    assert session.status == "completed"
    assert any_kit.counts == {"a": 2, "b": 1}


def test_a_worker_that_beats_again_does_not_fail_its_step(kit: Kit) -> None:
    """The test of silence is made again under the step's lock."""
    session = kit.start("a")
    orphan(kit, session, "a", "fail")
    (found,) = kit.store.orphans(silent_for=None)
    kit.sql(
        "INSERT INTO cascade_workers (id, nodename, host, pid, capacity, started_at, heartbeat_at) VALUES "
        "('gone', 'n@h', 'h', 1, 1, :now, :now)",
        now=kit.store.now().strftime("%Y-%m-%d %H:%M:%S.%f"),
    )
    assert fate.give_back(kit.runtime, found, "{}", certain=False) is None
    assert step(session, "a")["status"] == "running"
    assert fate.give_back(kit.runtime, found, '{"type": "WorkerLost"}', certain=True) is fate.Fate.FAILED
    assert fate.give_back(kit.runtime, found, '{"type": "WorkerLost"}', certain=False) is None
    assert session.status == "failed"
    assert len(session.attempts) == 1


def test_of_several_recoveries_one_fails_the_step_and_tells_it(any_kit: Kit) -> None:
    """R134: all have read the same orphan, and all bear its token; docs/events.md says once."""
    told: list[str] = []
    session = any_kit.start("a")
    orphan(any_kit, session, "a", "fail")
    (found,) = any_kit.store.orphans_of(session.id)

    def listen(step: str, **_: Any) -> None:
        told.append(step)

    events.step_failed.connect(listen)
    try:
        fates = [fate.give_back(any_kit.runtime, found, '{"type": "WorkerLost"}', certain=True) for _ in range(3)]
    finally:
        events.step_failed.disconnect(listen)
    assert fates == [fate.Fate.FAILED, None, None]
    assert told == ["a"]


def test_a_run_here_finds_its_own_orphans_however_many_others_there_are(
    any_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R134: a shared look takes a batch in the order of ids; one session's own look is not to wait behind others."""
    monkeypatch.setattr(recovery, "BATCH", 1)
    sessions = [any_kit.start("a") for _ in range(3)]
    for session in sessions:
        orphan(any_kit, session, "a", None)
    assert [recovery.recover_session(any_kit.runtime, session.id) for session in sessions] == [1, 1, 1]


def test_whoever_finds_the_orphan_need_not_know_the_task(kit: Kit, make_kit: Any) -> None:
    """The claim has written down what a crash means: another program's worker, without the decorator, asks as well."""

    other = make_kit(kit.url)

    @kit.cascades.step(idempotent=False)
    @kit.task("once")
    def once() -> None:
        kit.sql("UPDATE session_steps SET worker = 'gone' WHERE status = 'running'")
        assert other.recover().released == 1

    session = kit.start({"id": "a", "task": "once"})
    kit.deliver()
    assert "once" not in other.app.tasks
    assert (session.status, session.reason) == ("suspended", "in_doubt")


def test_a_cold_shutdown_in_the_middle_of_the_body_is_in_doubt_too(kit: Kit) -> None:
    """It is nobody's crash and does not count as one, but the work may be done."""

    @kit.task("cut off")
    def cut_off() -> None:
        raise SystemExit("SIGTERM")

    session = kit.start({"id": "a", "task": "cut off", "on_crash": "ask"}, {"id": "x", "task": "add", "needs": []})
    with pytest.raises(SystemExit):
        kit.deliver()
    kit.sql("UPDATE session_steps SET wake_at = '2001-01-01 00:00:00.000000' WHERE status = 'queued'")
    assert (session.status, session.reason) == ("suspended", "in_doubt")

    told = kit.start({"id": "a", "task": "add", "on_crash": "ask"})
    orphan(kit, told, "a")
    kit.sql("UPDATE session_steps SET worker = :me WHERE status = 'running'", me="me")
    kit.runtime.enter_worker("me")
    ref = StepRef(store=kit.runtime.store_id, session=told.id, step="a", item=-1, attempt=1, task_id="t")
    recovery.attempt_lost(kit.runtime, ref, "cancelled", "cancelled by the cold shutdown of its worker")
    kit.runtime.enter_worker(None)
    assert told.reason == "in_doubt"
    assert step(told, "a")["crashes"] == 0


def test_a_claim_whose_body_never_began_is_queued_again_whatever_it_says(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the claim and the body nothing of the step's work can have happened."""
    session = kit.start({"id": "a", "task": "add", "on_crash": "ask"})
    (message,) = kit.messages()

    def struck(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("celery_cascade.tasks.claiming._begun", struck)
        with pytest.raises(KeyboardInterrupt):
            kit.receive(message)
    assert step(session, "a")["status"] == "queued"
    kit.deliver()
    assert session.status == "completed"
    assert kit.ran == ["a/2"]


def test_what_runs_beside_a_step_in_doubt_ends_and_what_follows_is_parked(kit: Kit) -> None:
    """R71: the other branches keep what they have done."""
    session = kit.start("a", {"id": "x", "task": "add", "needs": []}, {"id": "y", "task": "add", "needs": ["x"]})
    orphan(kit, session, "a")
    token = "running"
    assert kit.store.claim(StepKey(session.id, "x"), attempt=1, token=token, worker="gone", runner="1.1")
    kit.sql("UPDATE session_steps SET reason = 'ask' WHERE step = 'a'")
    (found,) = [one for one in kit.store.orphans(silent_for=None) if one.key.step == "a"]
    assert fate.give_back(kit.runtime, found, '{"type": "WorkerLost"}', certain=True) is fate.Fate.PARKED
    assert (session.status, session.reason) == ("active", "in_doubt")
    kit.recover()  # x was lost too, and says nothing: it waits for the session, not for an answer
    assert (session.status, session.reason) == ("suspended", "in_doubt")
    assert [one["step"] for one in session.to_dict()["waits_for"]] == ["a"]
    session.resume(done=4)
    kit.deliver()
    assert session.output == {"a": 4, "y": 1}


# -- what the words are
def test_a_files_word_wins_over_the_decorators(kit: Kit) -> None:
    """R151: the decorator gives the default, in files and in a canvas."""

    @kit.cascades.step(idempotent=False)
    @kit.app.task(name="once", shared=False)
    def once() -> None: ...

    @kit.cascades.step(on_crash="fail")
    @kit.app.task(name="fails", shared=False)
    def fails() -> None: ...

    def policies(target: Any) -> list[str]:
        return [one.on_crash for one in kit.runtime.facts(kit.cascades.start(target).id).plan.steps.values()]

    steps = [
        {"id": "a", "task": "once"},
        {"id": "b", "task": "once", "on_crash": "retry"},
        {"id": "c", "task": "fails"},
        {"id": "d", "task": "add"},
    ]
    assert policies(cascade(*steps)) == ["ask", "retry", "fail", "retry"]
    assert policies(cascade(*steps, defaults={"on_crash": "fail"})) == ["fail", "retry", "fail", "fail"]
    assert policies(chain(once.si(), fails.si(), kit.app.signature("add", immutable=True))) == ["ask", "fail", "retry"]


# -- answers
def test_done_ends_the_step_with_the_value_and_the_session_goes_on(any_kit: Kit) -> None:
    """R85: as a checkpoint would have, in one transaction, with who and why."""
    kit = any_kit
    join = {"id": "join", "task": "echo", "needs": ["b", "c"], "with": ["{{ outputs.a }}"]}
    b = {"id": "b", "task": "echo", "needs": ["a"], "with": ["{{ outputs.a.receipt }}"]}
    c = {"id": "c", "task": "add", "needs": ["a"], "when": "{{ outputs.a.receipt == 1 }}"}
    session = doubtful(kit, b, c, join)
    version = session.version
    assert session.resume(done={"receipt": 7}, actor="ann", reason="seen at the bank") is session
    assert session.version == version + 1
    (action,) = session.to_dict()["actions"]
    assert (action["action"], action["actor"], action["reason"], action["version"]) == (
        "resume", "ann", "seen at the bank", version + 1,
    )  # fmt: skip
    assert action["detail"] == {"step": "a", "answer": "done", "attempt": 1, "value": {"receipt": 7}}
    kit.deliver()
    assert session.status == "completed"
    assert session.output == {"receipt": 7}
    assert [one["status"] for one in session.steps] == ["succeeded", "succeeded", "skipped", "succeeded"]
    assert step(session, "b")["output"] == 7
    assert step(session, "a")["attempt"] == 1
    assert step(session, "a")["error"] is None
    assert session.to_dict()["waits_for"] == []
    assert kit.counts["a"] == 1


def test_skip_leaves_the_step_out_as_the_engine_skips(any_kit: Kit) -> None:
    follows = {"id": "b", "task": "add", "needs": ["a"]}
    join = {"id": "join", "task": "echo", "needs": ["b", "x"], "with": ["{{ outputs.x }}"]}
    session = doubtful(any_kit, follows, {"id": "x", "task": "add", "needs": []}, join)
    any_kit.deliver()
    session.resume(skip=True)
    any_kit.deliver()
    assert [(one["status"], one["reason"]) for one in session.steps] == [
        ("skipped", "operator"), ("skipped", "needs"), ("succeeded", None), ("succeeded", None),
    ]  # fmt: skip
    assert session.output == 1


def test_again_runs_the_step_with_a_fresh_count_of_crashes(any_kit: Kit) -> None:
    session = doubtful(any_kit, "b")
    session.resume(again=True)
    assert step(session, "a")["crashes"] == 0
    any_kit.deliver()
    assert session.status == "completed"
    assert any_kit.ran == ["a/1", "a/2", "b/1"]
    assert session.to_dict()["actions"][0]["detail"] == {"step": "a", "answer": "again", "attempt": 1}


def test_the_last_step_answered_ends_the_session(kit: Kit) -> None:
    session = doubtful(kit)
    session.resume(done=None)
    assert (session.status, session.output) == ("completed", None)


def test_an_answer_runs_here_and_now_where_the_session_does(kit: Kit) -> None:
    kit.app.conf.task_always_eager = True
    dies(kit)
    session = kit.start(ASK, "b")
    assert session.reason == "in_doubt"
    session.resume(done=1)
    assert session.status == "completed"


def test_a_resume_without_an_answer_is_refused_and_changes_nothing(any_kit: Kit) -> None:
    """R85, R150: exit code 5, with the three commands; neither the resume task nor its force runs it again."""
    session = doubtful(any_kit)
    before = session.to_dict()
    with pytest.raises(NotResumable) as told:
        session.resume()
    assert told.value.exit_code == 5
    assert f"session {session.id} is in doubt: step 'a' lost its worker" in told.value.message
    for way in ("--done RESULT", "--again", "--skip"):
        assert f"resume {session.id} {way}" in told.value.hint
    with pytest.raises(NotResumable, match=r"waiting for an answer: a") as told:
        session.result(timeout=0)
    assert "--skip" in told.value.hint
    resume = any_kit.app.tasks["celery_cascade.resume"]
    assert resume()["skipped"][session.id] == "in_doubt"
    assert resume(session.id) == {"resumed": [], "skipped": {session.id: "in_doubt"}}
    assert "is in doubt" in resume(session.id, force=True)["skipped"][session.id]
    assert session.to_dict() == before


def test_a_step_in_doubt_stays_so_when_an_operator_suspends_or_the_session_fails(kit: Kit) -> None:
    """No way round: whatever the session waits for, or failed for, a plain resume does not run the step again."""
    suspended = kit.start("a", {"id": "x", "task": "add", "needs": []})
    orphan(kit, suspended, "a")
    suspended.suspend()
    kit.recover()
    assert (suspended.status, suspended.reason) == ("suspended", "operator")
    failed = kit.start("a", {"id": "x", "task": "broken", "needs": []})
    orphan(kit, failed, "a")
    kit.deliver()
    kit.recover()
    assert failed.status == "failed"
    for session in (suspended, failed):
        with pytest.raises(NotResumable, match="in doubt"):
            session.resume()
        kit.fix.add("fixed")
        session.resume(done=1)
        kit.deliver()
        assert session.status == "completed"
        assert kit.counts["a"] == 0


def test_cancelled_in_doubt_it_is_over(kit: Kit) -> None:
    session = doubtful(kit)
    session.cancel("never mind")
    with pytest.raises(NotResumable, match="cancelled"):
        session.resume(done=1)
    assert (step(session, "a")["status"], step(session, "a")["reason"]) == ("cancelled", "in_doubt")
    assert session.to_dict()["waits_for"] == []


def test_of_several_steps_in_doubt_each_is_answered_and_then_it_goes_on(any_kit: Kit) -> None:
    kit = any_kit
    kit.app.conf.cascade_max_crashes = 1
    branches = [{"id": name, "task": "add", "needs": []} for name in ("a", "b", "p")]
    session = kit.start(
        *branches, {"id": "join", "task": "echo", "needs": ["a", "b", "p"], "with": ["{{ outputs.a }}"]}
    )
    orphan(kit, session, "a"), orphan(kit, session, "b"), orphan(kit, session, "p", None)
    kit.messages()
    kit.recover()
    assert (session.status, session.reason) == ("suspended", "in_doubt")
    assert [(one["step"], one["reason"]) for one in session.to_dict()["waits_for"]] == [
        ("a", "in_doubt"), ("b", "in_doubt"), ("p", "poisoned"),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="3 steps wait for an answer: a, b, p; say which") as told:
        session.resume(again=True)
    assert "--step a --again" in told.value.hint
    session.resume(step="b", again=True)
    assert (session.status, session.reason) == ("suspended", "in_doubt")
    assert session.to_dict()["error"]["step"] == "a"
    session.resume(step="a", done=5)
    assert (session.status, session.reason) == ("suspended", "poisoned")
    assert session.to_dict()["error"]["step"] == "p"
    assert kit.messages() == []
    session.resume()  # poisoned: as ever, a fresh count
    kit.deliver()
    assert (session.status, session.output) == ("completed", 5)
    assert kit.counts == {"b": 1, "p": 1, "join": 1}


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"done": float("nan")}, NotSerializable, "output of step 'a'"),
        ({"done": object()}, NotSerializable, "output of step 'a'"),
        ({"done": "x" * 5000}, PayloadTooLarge, "5,002 bytes"),
        ({"done": 1, "skip": True}, UsageError, "done, skip are different answers"),
        ({"step": "a"}, UsageError, "not what became of it"),
        ({"step": "b", "again": True}, SessionConflict, "step 'b' does not wait for an answer"),
        ({"done": 1, "reason": "r" * 10_001}, UsageError, "reason"),
    ],
)
def test_an_answer_that_makes_no_sense_changes_nothing(
    kit: Kit, options: dict[str, Any], error: type[CascadeError], what: str
) -> None:
    kit.app.conf.cascade_max_payload_bytes = 4096
    session = doubtful(kit, "b")
    before = session.to_dict()
    with pytest.raises(error, match=what):
        session.resume(**options)
    assert session.to_dict() == before


def test_what_does_not_wait_cannot_be_answered(kit: Kit) -> None:
    active, ended = kit.start("a"), kit.run("a")
    with pytest.raises(SessionConflict, match="no step of it waits"):
        active.resume(again=True)
    with pytest.raises(NotResumable, match="completed"):
        ended.resume(again=True)


def test_two_answers_at_once_and_one_wins(any_kit: Kit) -> None:
    """The other is told, and by whom it was answered."""
    session = doubtful(any_kit, "b")
    ready, errors, won = threading.Barrier(2), [], []

    def answer(name: str, value: int) -> None:
        ready.wait()
        try:
            any_kit.cascades.session(session.id).resume(done=value, actor=name, step="a")
            won.append(value)
        except CascadeError as error:
            errors.append(error)

    threads = [threading.Thread(target=answer, args=(name, value)) for name, value in (("ann", 1), ("bob", 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert [type(error) for error in errors] == [SessionConflict]
    assert step(session, "a")["output"] == won[0]
    assert len(session.to_dict()["actions"]) == 1


def test_who_comes_too_late_is_not_told_that_the_store_is_damaged(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that moves between two looks at it is not "Failed to restore" (R85): its head and steps differ."""
    session = doubtful(kit, "b")
    look = kit.store.steps

    def answered_meanwhile(session_id: str) -> Any:
        monkeypatch.setattr(kit.store, "steps", look)
        session.resume(done=1)
        return look(session_id)

    monkeypatch.setattr(kit.store, "steps", answered_meanwhile)
    with pytest.raises(SessionConflict, match="step 'a' does not wait for an answer"):
        session.resume(done=2, step="a")
    assert step(session, "a")["output"] == 1


def test_an_answer_to_an_earlier_crash_is_not_taken_for_a_later_one(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looked, somebody else said `again`, and it crashed once more: that is another question."""
    session = doubtful(kit)
    stale = kit.store.steps(session.id)
    session.resume(again=True, actor="bob")
    orphan(kit, session, "a", attempt=2)
    kit.recover()
    assert session.reason == "in_doubt"
    with monkeypatch.context() as patch:
        patch.setattr(kit.store, "steps", lambda _: stale)
        with pytest.raises(SessionConflict, match="step 'a' was answered already by bob: again"):
            session.resume(done=1)
    session.resume(done=2)
    assert session.output == 2


def test_whoever_listens_hears_of_the_doubt_the_answer_and_the_end(kit: Kit) -> None:
    """docs/events.md."""
    heard: list[Any] = []

    def hear(name: str) -> Any:
        def tell(**more: Any) -> None:
            heard.append((name, *(more[key] for key in ("reason", "step", "status") if key in more)))

        return tell

    names = ("session_suspended", "session_resumed", "step_checkpointed", "session_completed")
    hearers = {name: hear(name) for name in names}
    for name, hearer in hearers.items():
        getattr(events, name).connect(hearer, weak=False)
    session = doubtful(kit)
    session.resume(done=1)
    for name, hearer in hearers.items():
        getattr(events, name).disconnect(hearer)
    assert heard == [
        ("session_suspended", "in_doubt", "suspended"),
        ("step_checkpointed", "a", "succeeded"),
        ("session_resumed", None),
        ("session_completed", "completed"),
    ]


def test_the_answer_in_sql_is_json_that_anybody_reads(kit: Kit) -> None:
    session = doubtful(kit)
    session.resume(done={"__type__": "x", "__value__": 1})
    ((detail,),) = kit.sql("SELECT detail FROM session_actions WHERE action = 'resume'")
    assert json.loads(detail)["answer"] == "done"
    assert session.output == {"__type__": "x", "__value__": 1}
