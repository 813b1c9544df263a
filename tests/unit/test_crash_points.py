"""The names of the places where a crash is tried, and what it costs that they are there."""

import inspect
from pathlib import Path

import pytest

from celery_cascade import crash_points
from celery_cascade.crash_points import INSIDE, CrashPoint, reached
from celery_cascade.testing.points import Visit, crash_at, recording

SOURCE = Path(crash_points.__file__).parent
#: Reached by the bodies of tests, or by what tests put around Celery's own acknowledgement.
BY_TESTS = {CrashPoint.IN_BODY, CrashPoint.ACK, CrashPoint.ACKED}


class Key:
    step = "charge"


def test_a_point_that_nobody_has_armed_does_nothing():
    assert reached(CrashPoint.CLAIM, Key()) is None


def test_whoever_records_learns_which_points_were_reached_and_whose_they_are():
    seen: list[Visit] = []
    with recording(seen.append):
        reached(CrashPoint.CLAIM, Key())
        reached(CrashPoint.ENDED)
    reached(CrashPoint.CLAIM, Key())
    assert [str(visit) for visit in seen] == ["charge:claim", "ended"]


def test_a_crash_happens_at_the_asked_visit_and_not_before():
    happened: list[str] = []
    try:
        crash_at(2, wanted=lambda visit: visit.point is CrashPoint.CLAIM, crash=lambda: happened.append("crash"))
        reached(CrashPoint.CLAIM)
        reached(CrashPoint.BODY)
        assert happened == []
        reached(CrashPoint.CLAIM)
        reached(CrashPoint.CLAIM)
    finally:
        crash_points.arm(None)
    assert happened == ["crash"]


@pytest.mark.parametrize("point", [p for p in CrashPoint if p not in BY_TESTS])
def test_every_point_stands_somewhere_in_the_code(point):
    """A name that nothing reaches would count as covered and be none."""
    word = f"CrashPoint.{point.name}"
    files = [path for path in SOURCE.rglob("*.py") if "testing" not in path.parts and path.name != "crash_points.py"]
    assert any(word in path.read_text() for path in files), f"nobody reaches {word}"


def test_every_point_says_in_a_sentence_what_is_true_there():
    lines = inspect.getsource(CrashPoint).splitlines()
    named = [line for line in lines if ' = "' in line]
    assert len(named) == len(CrashPoint)
    assert all("#: " in line and len(line.partition("#: ")[2]) > 15 for line in named)


def test_points_inside_a_transaction_are_known_by_their_names():
    assert CrashPoint.CHECKPOINT_OPEN in INSIDE
    assert CrashPoint.CHECKPOINTED not in INSIDE
