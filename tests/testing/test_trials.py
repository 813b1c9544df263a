"""How a crashed run is judged against an undisturbed one, and which crashes are tried."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_cascade.crash_points import CrashPoint
from celery_cascade.errors import UsageError
from celery_cascade.testing.bodies import Lines, Timer
from celery_cascade.testing.crashes import DEFAULT_POINTS, Crash, crashes_at, crashes_inside, points_of
from celery_cascade.testing.differences import difference
from celery_cascade.testing.journal import LINES, Entry
from celery_cascade.testing.points import sentences
from celery_cascade.testing.trials import Run, trial_of

DONE = {"status": "completed", "reason": None, "output": 1, "error": None}
ONCE = ("claimed", "body", "body_ended", "checkpointed")


def run(*points: str, answer: Any = DONE, step: str = "a", more: tuple[Entry, ...] = ()) -> Run:
    entries = [Entry(float(number), 1, point, step) for number, point in enumerate(points)]
    return Run(entries=[*entries, *more], answer=answer, ended="gone", died_at=1.5, finished_at=9.0)


def tried(after: Run, point: CrashPoint = CrashPoint.BODY_ENDED, on_crash: str = "retry") -> Any:
    crash = Crash(point=point, step="a", item=-1, visit=1, words="body_ended")
    step: Any = SimpleNamespace(on_crash=on_crash)
    return trial_of(crash, after, run(*ONCE), step, ())


def test_a_step_that_runs_again_after_its_crash_is_well() -> None:
    trial = tried(run("claimed", "body", *ONCE))
    assert (trial.outcome, trial.ran_again, trial.harm) == ("went on", True, ())
    assert trial.back == 0.5


def test_a_step_that_runs_again_after_its_checkpoint_is_harm() -> None:
    """D11."""
    trial = tried(run(*ONCE, "body"))
    assert trial.harm == ("a ran again after its checkpoint",)


def test_a_step_that_runs_more_often_than_the_crash_accounts_for_is_harm() -> None:
    assert tried(run("body", "body", "body")).harm == ("a ran 2 times more than without a crash",)
    other = run(*ONCE, more=(Entry(9.0, 2, "body", "b"),))
    assert tried(other).harm == ("b ran 1 times more than without a crash",)


def test_a_body_that_was_about_to_begin_when_it_crashed_has_not_run() -> None:
    assert not tried(run("claimed", "body", *ONCE), point=CrashPoint.BODY).ran_again
    assert tried(run("claimed", "body", *ONCE), point=CrashPoint.BODY, on_crash="ask").harm == ()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (DONE | {"output": 2}, "output: 1 became 2"),
        (DONE | {"status": "failed", "error": {"message": "no"}}, "the session is failed: no"),
        (DONE | {"status": "suspended", "reason": "poisoned"}, "the session is suspended: poisoned"),
        ({"error": "no task"}, "it could not go on: no task"),
        (None, "gone"),
    ],
)
def test_whatever_is_not_as_without_a_crash_is_harm(answer: Any, said: str) -> None:
    trial = tried(run(*ONCE, answer=answer))
    assert (trial.harm, trial.outcome) == ((said,), "harm")


def test_what_on_crash_asks_for_is_no_harm() -> None:
    """`ask` suspends and `fail` fails: that is what they are there for; without them it is harm."""
    in_doubt = run("claimed", "body", answer=DONE | {"status": "suspended", "reason": "in_doubt"})
    failed = run("claimed", "body", answer=DONE | {"status": "failed", "error": {"message": "lost"}})
    assert (tried(in_doubt, on_crash="ask").outcome, tried(in_doubt).outcome) == ("asks", "harm")
    assert (tried(failed, on_crash="fail").outcome, tried(failed).outcome) == ("fails", "harm")


def test_a_step_that_must_not_run_twice_and_does_is_harm() -> None:
    twice = run("claimed", "body", *ONCE)
    assert tried(twice, on_crash="ask").harm == ("on_crash of a is 'ask', and its body ran twice",)
    assert tried(run(*ONCE), on_crash="ask").harm == ()


def test_each_visit_of_a_wanted_point_is_crashed_once() -> None:
    entries = [Entry(0.0, 1, what, "a") for what in ("body", "body_ended", "body", "checkpointed")]
    found = list(crashes_at(entries, (CrashPoint.BODY, CrashPoint.CHECKPOINTED)))
    assert [(crash.point, crash.visit, crash.words) for crash in found] == [
        ("body", 1, "body"),
        ("body", 2, "body, time 2"),
        ("checkpointed", 1, "checkpointed"),
    ]


def test_long_bodies_are_ended_by_time_and_short_ones_between_lines() -> None:
    timed = [Entry(0.0, 1, "body", "long"), Entry(4.0, 1, "body_ended", "long")]
    timed += [Entry(4.0, 1, "body", "short"), Entry(4.001, 1, "body_ended", "short")]
    counted = [Entry(9.0, 2, LINES, "short", detail="3"), Entry(9.0, 2, LINES, "long", detail="1")]
    found = list(crashes_inside(timed, counted, 3))
    assert [(crash.step, type(crash.watch)) for crash in found] == [("long", Timer)] * 3 + [("short", Lines)] * 2
    assert found[0].words == "in its body, after 1.00 s of 4.00 s"
    assert [crash.words for crash in found[3:]] == [
        f"in its body, before line {line} of the 3 that it runs" for line in (2, 3)
    ]


def test_a_body_of_one_line_has_nothing_between_its_lines() -> None:
    entries = [Entry(0.0, 1, "body", "a"), Entry(0.0, 1, "body_ended", "a"), Entry(0.0, 1, LINES, "a", detail="1")]
    assert list(crashes_inside(entries, entries, 3)) == []


def test_lines_are_spread_and_never_beyond_the_last() -> None:
    for lines in range(2, 40):
        for tries in range(1, 6):
            entries = [Entry(0.0, 1, w, "a") for w in ("body", "body_ended")]
            entries.append(Entry(0.0, 1, LINES, "a", detail=str(lines)))
            found = [int(c.words.split("line ")[1].split()[0]) for c in crashes_inside(entries, entries, tries)]
            assert len(set(found)) == min(tries, lines - 1)
            assert 2 <= min(found) <= max(found) <= lines


def test_points_are_named_alone_with_commas_or_as_a_group() -> None:
    assert points_of(["body, claimed", "BODY"]) == (CrashPoint.BODY, CrashPoint.CLAIMED)
    assert points_of([]) == points_of(["default"]) == DEFAULT_POINTS
    assert points_of(["all"]) == tuple(CrashPoint)
    with pytest.raises(UsageError, match="no crash point ''"):
        points_of(["body,"])


def test_every_point_has_its_sentence() -> None:
    assert list(sentences()) == list(CrashPoint)
    assert sentences()[CrashPoint.BODY] == "the body is about to begin"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (1, 1, None),
        (1, 1.0, "x: 1 became 1.0"),
        (True, 1, "x: True became 1"),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "x.a.1.b: 2 became 3"),
        ({"a": 1}, {}, "x.a: 1 is missing"),
        ({}, {"a": None}, "x.a: None came on top"),
        ([1], [1, 2], "x.1: 2 came on top"),
        ([1], {"0": 1}, "x: [1] became {'0': 1}"),
    ],
)
def test_the_first_difference_is_named_by_its_path(before: Any, after: Any, said: str | None) -> None:
    assert difference(before, after, "x") == said


def test_a_path_that_is_left_out_hides_no_other() -> None:
    before, after = {"a": {"at": 1, "n": 1}, "b": {"at": 1}}, {"a": {"at": 2, "n": 2}, "b": {"at": 3}}
    assert difference(before, after, "x", ["x.*.at"]) == "x.a.n: 1 became 2"
    assert difference(before, after, "x", ["x.*.at", "x.a.n"]) is None
    assert difference(before, after, "x", ["x"]) is None
