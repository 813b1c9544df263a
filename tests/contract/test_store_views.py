"""Lists, pages and lookups: plain rows, no payloads in lists."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from celery_cascade.errors import SessionNotFound
from celery_cascade.persistence.views import SessionFilter
from celery_cascade.states import Halt
from contract.kit import BODY, NOON, Kit, joins, queued


def listed(kit: Kit, **wanted: Any) -> list[str]:
    return [row["session_id"] for row in kit.store.sessions(SessionFilter(**wanted))]


def three(kit: Kit) -> list[str]:
    """Sessions a second apart, the oldest first."""
    found = []
    sessions: list[tuple[str, dict[str, Any]]] = [
        ("one", {"cascade_id": "order", "resource_id": "shop", "execution_key": "k1"}),
        ("two", {"cascade_id": "etl", "mode": "canvas"}),
        ("three", {"cascade_id": "order", "resource_id": "shop"}),
    ]
    for session, more in sessions:
        found.append(kit.start(session_id=session, **more))
        kit.clock.forward(1)
    return found


def test_a_list_is_newest_first(kit: Kit) -> None:
    three(kit)
    assert listed(kit) == ["three", "two", "one"]
    assert listed(kit, limit=2) == ["three", "two"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"cascade": "order"}, ["three", "one"]),
        ({"cascade": "Order"}, []),
        ({"mode": "canvas"}, ["two"]),
        ({"resource_id": "shop"}, ["three", "one"]),
        ({"execution_key": "k1"}, ["one"]),
        ({"status": ["suspended", "failed"]}, ["one"]),
        ({"status": ["active"]}, ["three", "two"]),
        ({"status": []}, []),
        ({"since": NOON + timedelta(seconds=1)}, ["three", "two"]),
        ({"prefix": "t"}, ["three", "two"]),
        ({"prefix": "th", "cascade": "order", "status": ["active"]}, ["three"]),
    ],
)
def test_each_filter_finds_what_it_says(kit: Kit, wanted: dict[str, Any], expected: list[str]) -> None:
    """R40, R129."""
    three(kit)
    kit.store.halt("one", Halt.SUSPENDED, "operator")
    kit.store.settle("one")

    assert listed(kit, **wanted) == expected
    assert kit.store.count(SessionFilter(**wanted)) == len(expected)


def test_a_cursor_goes_through_all_without_gap_or_double(kit: Kit) -> None:
    """Also where many begin in one moment."""
    expected = []
    for number in range(23):
        expected.append(kit.start(session_id=f"s{number:02}"))
        if number % 5 == 0:
            kit.clock.forward(1)
    found, before = [], None
    while page := kit.store.sessions(SessionFilter(limit=4, before=before)):
        found += [row["session_id"] for row in page]
        before = (page[-1]["created_at"], page[-1]["session_id"])

    assert sorted(found) == sorted(expected)
    assert found == sorted(found, key=lambda session: (kit.store.session(session)["created_at"], session), reverse=True)


def test_a_prefix_is_taken_by_letter(kit: Kit) -> None:
    """Case counts, and % and _ are letters."""
    for session in ("a_b1", "aXb2", "A_b3", "a%b4", "a/b5"):
        kit.start(session_id=session)

    assert listed(kit, prefix="a_b") == ["a_b1"]
    assert listed(kit, prefix="A_") == ["A_b3"]
    assert listed(kit, prefix="a%") == ["a%b4"]
    assert listed(kit, prefix="a/") == ["a/b5"]
    assert sorted(listed(kit, prefix="a")) == ["a%b4", "a/b5", "aXb2", "a_b1"]


def test_a_list_loads_no_payloads(kit: Kit) -> None:
    """R146."""
    kit.start(input_data='"big"')
    (row,) = kit.store.sessions(SessionFilter())
    assert not {"input_data", "output", "error", "body", "context_variables", "plan_data"} & set(row)


def test_the_error_for_an_unknown_session_tells_how_many_there_are(kit: Kit) -> None:
    """R114."""
    kit.start()
    with pytest.raises(SessionNotFound, match=r"Session 'nobody' not found\. Available sessions: 1"):
        kit.store.session("nobody")


def test_a_definition_comes_back_byte_for_byte(kit: Kit) -> None:
    session = kit.start()
    row = kit.store.definition(kit.store.session(session)["definition_digest"])
    assert (bytes(row["body"]), row["cascade_id"], row["format"]) == (BODY, "order", "yaml")


def test_steps_come_in_the_order_in_which_they_were_queued_and_the_others_after(kit: Kit) -> None:
    session = kit.start([*queued("b", "a"), *joins(j=2)], total=5)
    kit.clock.forward(1)
    kit.run(session, "b", "c", skips=["aa"])

    assert [row["step"] for row in kit.store.steps(session)] == ["a", "b", "c", "aa", "j"]
    assert kit.store.steps("nobody") == []


def test_sessions_are_counted_by_status(kit: Kit) -> None:
    three(kit)
    kit.run("one")
    kit.complete("one")
    assert kit.store.open_counts() == {"active": 2, "completed": 1}


def test_attempts_come_oldest_first(kit: Kit) -> None:
    session = kit.start()
    for kind in ("failure", "retry", "timeout"):
        kit.clock.forward(1)
        kit.fail(kit.claim(session), 0.0, kind=kind)
    assert [(row["attempt"], row["kind"]) for row in kit.store.attempts(session)] == [
        (1, "failure"),
        (2, "retry"),
        (3, "timeout"),
    ]
