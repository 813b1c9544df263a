"""The crash test itself: what it lets pass, what it catches, and what it leaves alone."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group

from celery_cascade.errors import DefinitionError, InputError, UsageError
from celery_cascade.testing import crash_test
from testing.kit import Shop

DEFAULT = {"claimed", "body", "body_ended", "checkpoint_open", "checkpointed", "end_open", "ended", "in_body"}


def test_a_careful_cascade_passes_and_every_step_was_crashed_at_every_point(shop: Shop) -> None:
    report = shop.crash("careful", "reads_memory", points=(), in_body=2)
    assert report.ok, report
    assert {trial.point for trial in report.trials} == DEFAULT
    careful, _, session = report.rows
    assert (careful.step, careful.effects, careful.key, careful.output) == ("careful", "same", "asked", "same")
    assert (careful.crashes, careful.ran_again) == (7, 4)  # not after claimed, body and checkpointed
    assert (session.step, session.crashes, session.ran_again) == ("(session)", 2, 0)
    assert careful.back_worst is not None
    assert 0 < careful.back_worst < 10
    assert str(report).splitlines()[-1].startswith("All well: 14 crashes")


def test_an_effect_that_is_doubled_is_caught_and_its_step_named(shop: Shop) -> None:
    report = shop.crash("careful", "careless", "joined", target=chain_of_three(), points=["body", "body_ended"])
    assert not report.ok
    rows = {row.step: row for row in report.rows}
    assert (rows["careless"].effects, rows["careless"].outcome, rows["careless"].key) == (
        "differ",
        "harm 1",
        "not asked",
    )
    assert rows["careful"].effects == rows["joined"].effects == "same"
    assert [trial.where for trial in report.harmed] == ["body_ended"]
    assert "careless, body_ended: effects.2: 'mail' came on top" in str(report)
    assert "careless, body_ended" in repr(report)


def chain_of_three() -> dict[str, Any]:
    steps = [{"id": name, "task": f"shop.{name}"} for name in ("careful", "careless", "joined")]
    return {"cascade": "shop", "steps": [*steps[:2], steps[2] | {"with": {"words": ["{{ outputs.careless }}"]}}]}


def test_an_effect_that_is_half_done_is_caught_between_two_lines_of_the_body(shop: Shop) -> None:
    assert shop.crash("halfway", points="default").ok
    report = shop.crash("halfway", points="body", in_body=3)
    assert not report.ok
    assert {(trial.point, trial.harm) for trial in report.harmed} == {("in_body", ("effects.1: 'done' is missing",))}
    assert [trial.where for trial in report.trials][1] == "in its body, before line 3 of the 11 that it runs"


def test_a_body_that_takes_its_time_is_ended_after_a_part_of_it(shop: Shop) -> None:
    report = shop.crash("slow", points="body", in_body=2)
    inside = [trial for trial in report.trials if trial.point == "in_body"]
    assert all(re.match(r"in its body, after 0\.\d\d s of 0\.\d\d s$", trial.where) for trial in inside)
    assert [trial.harm for trial in inside] == [("effects.1: 'b' became 'a'",)] * 2


def test_what_a_step_keeps_in_memory_is_lost_with_its_process(shop: Shop) -> None:
    report = shop.crash("keeps_in_memory", "reads_memory", points="claimed")
    assert [trial.harm for trial in report.trials] == [(), ("output.0: 'parcel' is missing",)]
    assert report.rows[1].output == "differs"


def test_what_a_step_counts_in_a_file_is_counted_twice(shop: Shop) -> None:
    report = shop.crash("counts", effects=None)
    assert [trial.harm for trial in report.trials] == [("output: 1 became 2",)]


def test_without_effects_the_table_says_that_they_were_not_seen(shop: Shop) -> None:
    report = shop.crash("careless", effects=None)
    assert report.ok
    assert (report.rows[0].effects, report.rows[0].key, report.rows[0].ran_again) == ("not seen", "not asked", 1)
    assert "not looked at" in report.notes[0]


@pytest.mark.parametrize("task", ["random", "counts"])
def test_a_cascade_that_differs_without_any_crash_is_not_tested_and_both_ways_out_are_told(
    shop: Shop, task: str
) -> None:
    report = shop.crash(task, reset=None)
    assert not report.ok
    assert report.trials == ()
    assert "two runs in a row differ (output" in str(report)
    assert "--reset" in str(report)
    assert "--ignore" in str(report)


def test_what_differs_anyway_can_be_left_out_and_the_rest_still_counts(shop: Shop) -> None:
    assert shop.crash("random", ignore=["output.token"]).ok
    assert shop.crash("random", ignore=["*.tok*"]).ok
    assert not shop.crash("random", ignore=["output.word"]).ok


def test_a_step_that_hangs_after_the_crash_is_told(shop: Shop) -> None:
    report = shop.crash("hangs_the_second_time", timeout=6, points=["body", "body_ended"])
    assert [trial.harm for trial in report.trials] == [(), ("it was not done after 6 s",)]
    assert report.rows[0].outcome == "harm 1"


def test_a_cascade_that_hangs_or_fails_without_a_crash_is_told(shop: Shop) -> None:
    (shop.folder / "been.txt").touch()
    hanging = shop.crash("hangs_the_second_time", reset=None, timeout=4)
    assert hanging.harm == ("it was not done after 4 s",)
    failing = shop.crash("breaks")
    assert failing.harm == ("the session is failed: ValueError: it is broken",)
    assert not failing.ok


def test_a_canvas_is_tested_as_a_file_is(shop: Shop) -> None:
    t = shop.app.tasks
    report = crash_test(shop.app, chain(t["shop.careful"].si(), t["shop.joined"].si(["a"])), points="body", in_body=0)
    assert report.ok, report
    assert [row.step for row in report.rows] == ["careful", "joined"]
    joined = chord(group(t["shop.careful"].si(), t["shop.careless"].si()), t["shop.joined"].s())
    assert crash_test(shop.app, joined, points=["join_ready", "join_arrived"], in_body=0).ok


def test_a_retried_step_is_crashed_at_both_attempts(shop: Shop) -> None:
    step = {"id": "a", "task": "shop.fails_once", "retry": {"max_attempts": 2, "delay": "10ms"}}
    report = shop.crash(target={"cascade": "c", "steps": [step]}, points=["body", "retry_scheduled"])
    assert report.ok, report
    assert [trial.where for trial in report.trials] == ["body", "retry_scheduled", "body, time 2"]


@pytest.mark.parametrize(("on_crash", "word"), [("ask", "asks"), ("fail", "fails")])
def test_a_step_that_asks_or_fails_after_a_crash_does_what_it_says(shop: Shop, on_crash: str, word: str) -> None:
    """Its mail is never sent twice. A crash before it began, or after its checkpoint, is survived as ever."""
    step = {"id": "mail", "task": "shop.careless", "on_crash": on_crash}
    points = ["claimed", "body", "body_ended", "checkpointed"]
    report = shop.crash(target={"cascade": "c", "steps": [step]}, points=points)
    assert report.ok, report
    outcomes = {trial.where: trial.outcome for trial in report.trials}
    assert (outcomes["body_ended"], outcomes["checkpointed"]) == (word, "went on")
    assert report.rows[0].ran_again == 0
    assert f"{word} {list(outcomes.values()).count(word)}" in report.table()[0]
    assert "on_crash says" in report.verdict()[0]


def test_a_task_that_is_declared_not_idempotent_asks(shop: Shop) -> None:
    shop.cascades.step(idempotent=False)(shop.app.tasks["shop.careless"])
    report = shop.crash("careless", points="body_ended")
    assert report.ok, report
    assert report.rows[0].outcome == "asks 1"


def test_what_a_body_has_started_dies_with_it(shop: Shop) -> None:
    """As when a machine goes down; nothing of one run writes into the next."""
    report = shop.crash("starts_processes", points="body_ended", effects=None)
    assert report.ok, report
    time.sleep(2.2)
    assert shop.effects() == []


def test_messages_of_bodies_go_nowhere_and_that_is_said(shop: Shop) -> None:
    report = shop.crash("sends")
    assert report.ok, report
    assert report.notes == ("Messages that bodies sent (shop.careless) went nowhere: the sandbox has no broker.",)


def test_neither_the_store_nor_the_broker_of_the_environment_is_touched(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shop's own cannot be reached either, and here variables name others."""
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.setenv(name, "redis://127.0.0.1:1/0")
    monkeypatch.setenv("CELERY_CASCADE_DATABASE_URL", "mysql://canary@127.0.0.1:1/canary")
    before = dict(os.environ)
    assert shop.crash("sends").ok
    runtime = shop.cascades.runtime
    assert dict(os.environ) == before
    assert runtime._store is None
    assert "canary" in str(runtime.database_url)
    assert shop.app.conf.broker_url == "redis://127.0.0.1:1/0"


def test_a_store_that_is_open_already_stays_as_it_is(tmp_path: Path, shop: Shop) -> None:
    shop.app.conf.update(cascade_database_url=None, cascade_home=str(tmp_path / "own"))
    session = shop.cascades.run({"cascade": "own", "steps": [{"id": "a", "task": "shop.random"}]})
    assert shop.crash("careful").ok
    assert [found.id for found in shop.cascades.sessions()] == [session.id]


def test_the_sandbox_is_removed_unless_it_is_to_be_kept(shop: Shop, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert shop.crash("careful").folder is None
    assert list(tmp_path.glob("cascade-crashtest-*")) == []
    kept = shop.crash("careful", keep=True).folder
    assert kept is not None
    assert {"run-0001", "run-0003"} <= {path.name for path in Path(kept).iterdir()}


def test_what_cannot_be_used_is_refused_before_or_with_its_reason(shop: Shop) -> None:
    with pytest.raises(UsageError, match="no crash point 'bodi'; did you mean 'body'"):
        shop.crash("careful", points="bodi")
    with pytest.raises(UsageError, match="raised ZeroDivisionError"):
        shop.crash("careful", effects=lambda: 1 / 0)
    with pytest.raises(UsageError, match="raised ZeroDivisionError"):
        shop.crash("careful", reset=lambda: 1 / 0)
    with pytest.raises(UsageError, match="no JSON"):
        shop.crash("careful", effects=lambda: {1, 2})
    with pytest.raises(UsageError, match="in_body"):
        shop.crash("careful", in_body=-1)
    with pytest.raises(DefinitionError, match="careful"):
        shop.crash("carefull")
    with pytest.raises(InputError):
        shop.crash(target=chain_of_three() | {"inputs": {"n": "integer"}}, inputs={"n": "one"})


def test_points_that_are_never_reached_are_no_success(shop: Shop) -> None:
    report = shop.crash("careful", points="publish")
    assert not report.ok
    assert "nothing was tried" in str(report)
    assert "Never reached here: publish." in str(report)
