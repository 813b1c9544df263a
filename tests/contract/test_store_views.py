"""Lists, pages and lookups: plain rows, no payloads in lists."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from celery_cascade.errors import SessionNotFound
from celery_cascade.persistence import tables, ways
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


def test_a_tag_finds_its_sessions(kit: Kit) -> None:
    """Several tags: those that bear all of them. The list of tags itself keeps its order."""
    kit.start(session_id="one", tags='["Night","night","a%"]')
    kit.start(session_id="two", tags='["night"]')
    kit.start(session_id="none", tags="[]")
    kit.clock.forward(1)
    kit.start(session_id="three", tags='["night","a%"]', cascade_id="etl")

    assert listed(kit, tags=["night"]) == ["three", "two", "one"]
    assert listed(kit, tags=["night", "a%"]) == ["three", "one"]
    assert listed(kit, tags=["Night"]) == ["one"]
    assert listed(kit, tags=["night"], cascade="etl") == ["three"]
    assert listed(kit, tags=["a"]) == []
    assert kit.store.count(SessionFilter(tags=["night", "a%"])) == 2
    assert kit.store.session("one")["tags"] == '["Night","night","a%"]'


def test_tags_go_with_their_session(kit: Kit) -> None:
    session = kit.start(tags='["x"]')
    kit.store.delete_session(session)
    assert kit.column(tables.tags.c.tag) == []


@pytest.mark.parametrize("field", ["thread_id", "resource_id", "execution_key"])
def test_what_a_session_belongs_to_finds_it(kit: Kit, field: str) -> None:
    for session, value in (("one", "x"), ("two", "X"), ("three", None)):
        kit.start(session_id=session, **{field: value})
    assert listed(kit, **{field: "x"}) == ["one"]
    assert listed(kit, **{field: "y"}) == []


def test_a_family_is_found_by_its_parent_and_by_its_root(kit: Kit) -> None:
    """R129: also together with a state."""
    kit.start(session_id="root")
    for session, parent in (("child", "root"), ("grandchild", "child")):
        kit.clock.forward(1)
        kit.start(session_id=session, parent_session_id=parent, parent_step="a", root_session_id="root", depth=1)
    kit.start(session_id="other")
    assert listed(kit, parent="root") == ["child"]
    assert listed(kit, root="root") == ["grandchild", "child", "root"]
    assert listed(kit, root="root", status=["failed"]) == []
    assert listed(kit, root="root", status=["active"], limit=1) == ["grandchild"]


def test_forks_are_found_by_their_origin(kit: Kit) -> None:
    kit.start(session_id="origin")
    fork = kit.start()
    change = update(tables.sessions).where(tables.sessions.c.session_id == fork).values(forked_from="origin")
    kit.database.transaction(lambda conn: conn.execute(change))
    assert listed(kit, forked_from="origin") == [fork]


def test_a_step_finds_the_sessions_that_stand_there(kit: Kit) -> None:
    """Queued, running, parked by a suspension, failed for good: not where a step has ended well or is to come."""
    for session in ("queued", "running", "parked", "failed", "beyond", "ended", "cancelled"):
        kit.start(queued("a"), session_id=session, total=2)
        kit.clock.forward(1)
    kit.start([*queued("b"), *joins(a=1)], session_id="before")
    kit.claim("running")
    kit.store.halt("parked", Halt.SUSPENDED, "operator")
    kit.store.settle("parked")
    kit.fail(kit.claim("failed"))
    kit.store.settle("failed")
    kit.run("beyond", "a", "b")
    kit.run("ended", "a", "b")
    kit.run("ended", "b")
    kit.complete("ended")
    kit.store.halt("cancelled", Halt.CANCELLED, None)
    kit.store.settle("cancelled")

    assert listed(kit, step="a") == ["failed", "parked", "running", "queued"]
    assert listed(kit, step="a", status=["failed"]) == ["failed"]
    assert listed(kit, step="b") == ["before", "beyond"]
    assert listed(kit, step="A") == []


def test_a_time_has_a_beginning_and_an_end(kit: Kit) -> None:
    """The beginning is in it, the end is not; also in a list of states, of tags, and of both."""
    for number in range(4):
        kit.start(session_id=str(number), tags='["x"]')
        kit.clock.forward(10)
    span: dict[str, Any] = {"since": NOON + timedelta(seconds=10), "until": NOON + timedelta(seconds=30)}
    for more in ({}, {"status": ["active", "failed"]}, {"tags": ["x"]}, {"tags": ["x"], "status": ["active"]}):
        assert listed(kit, **span, **more) == ["2", "1"]


def test_inputs_are_searched_by_the_letter(kit: Kit) -> None:
    """R29: whatever stands in the text is a letter of it, and case counts."""
    texts = {"one": '{"n":7,"word":"50% off"}', "two": '{"n":70,"word":"50_ OFF"}', "three": '{"n":7}'}
    for session, text in texts.items():
        kit.start(session_id=session, input_data=text, cascade_id="etl" if session == "three" else "order")
        kit.clock.forward(1)
    assert listed(kit, inputs=[["50%"]]) == ["one"]
    assert listed(kit, inputs=[["50_"]]) == ["two"]
    assert listed(kit, inputs=[["off"]]) == ["one"]
    assert listed(kit, inputs=[['"n":7,', '"n":7}']]) == ["three", "one"]
    assert listed(kit, inputs=[['"n":7,', '"n":7}'], ["off"]]) == ["one"]
    assert listed(kit, inputs=[["' OR 1=1 --"]]) == []
    assert listed(kit, inputs=[['"n":7,', '"n":7}']], cascade="order") == ["one"]


def test_errors_are_searched_by_the_letter(kit: Kit) -> None:
    for session, text in (("one", "no 100% stock"), ("two", "No stock")):
        kit.start(session_id=session)
        kit.fail(kit.claim(session), error=json.dumps({"message": text}))
        kit.store.settle(session)
        kit.clock.forward(1)
    kit.start()
    assert listed(kit, error="stock") == ["two", "one"]
    assert listed(kit, error="100%") == ["one"]
    assert listed(kit, error="stock", status=["active"]) == []


def test_counting_ends_where_it_is_told(kit: Kit) -> None:
    """D6."""
    for number in range(5):
        kit.start(session_id=str(number), tags='["x"]')
    for wanted in (SessionFilter(), SessionFilter(tags=["x"]), SessionFilter(status=["active", "failed"])):
        assert [kit.store.count(wanted, most) for most in (None, 3, 4, 5, 9)] == [5, 4, 5, 5, 5]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"cascade": "order"},
        {"status": ["active", "suspended", "failed"]},
        {"tags": ["x"]},
        {"mode": "cascade"},
        {"root": "s00"},
        {"thread_id": "t"},
        {"prefix": "s"},
        {"cascade": "order", "status": ["active", "suspended", "failed"]},
        {"execution_key": "k", "status": ["active", "suspended", "failed"]},
    ],
    ids=str,
)
def test_every_list_is_walked_without_gap_or_double(kit: Kit, more: dict[str, Any]) -> None:
    """Also where many begin in one moment, and while what is walked changes its state."""
    for number in range(23):
        kit.start(session_id=f"s{number:02}", tags='["x"]', root_session_id="s00", thread_id="t", execution_key="k")
        if number % 5 == 0:
            kit.clock.forward(1)
    kit.store.halt("s03", Halt.SUSPENDED, "operator")
    kit.store.settle("s03")
    found = []
    for number, row in enumerate(kit.store.all_sessions(SessionFilter(**more, limit=2), 4)):
        found.append(row["session_id"])
        if number == 9:
            kit.store.halt(row["session_id"], Halt.CANCELLED, None)
            kit.store.settle(row["session_id"])

    assert sorted(found) == [f"s{number:02}" for number in range(23)]
    created = [kit.store.session(session)["created_at"] for session in found]
    assert created == sorted(created, reverse=True)


def test_a_session_whose_head_was_written_later_is_listed_once(kit: Kit) -> None:
    """The two moments of a start are never quite the same, and an ORM user's may be far apart."""
    for number in range(6):
        kit.start(session_id=f"s{number}")
        kit.clock.forward(1)
    late = update(tables.heads).where(tables.heads.c.session_id == "s2").values(created_at=NOON + timedelta(hours=3))
    kit.database.transaction(lambda conn: conn.execute(late))
    found = [row["session_id"] for row in kit.store.all_sessions(SessionFilter(status=["active"]), 2)]
    assert sorted(found) == [f"s{number}" for number in range(6)]
    assert listed(kit, status=["active"], until=NOON + timedelta(seconds=4)) == ["s2", "s3", "s1", "s0"]


@pytest.mark.parametrize("more", [{"cascade": "order"}, {"execution_key": "k"}], ids=str)
def test_a_list_that_outgrows_its_way_goes_on_where_it_ended(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """A few sessions of a cascade are looked through for a state; once they are many, the state is for them."""
    monkeypatch.setattr(ways, "_RARE", 4)
    for number in range(6):
        kit.start(session_id=f"s{number}", **({"execution_key": "k"} if number < 4 else {"cascade_id": "new"}))
        if number % 3 == 0:
            kit.clock.forward(1)
    late = update(tables.heads).where(tables.heads.c.session_id == "s2").values(created_at=NOON + timedelta(hours=3))
    kit.database.transaction(lambda conn: conn.execute(late))
    wanted = SessionFilter(status=["active", "suspended"], limit=2, **more)
    page = kit.store.sessions(wanted)
    kit.start(session_id="t0", cascade_id="order", execution_key="k")
    rest = kit.store.sessions(replace(wanted, before=(page[-1]["listed_at"], page[-1]["listed_id"])))
    found = [row["session_id"] for row in page + rest]
    assert sorted(found) == ["s0", "s1", "s2", "s3"]
    assert found[0] == "s2"
    assert kit.store.count(wanted) == 5


def test_topics_are_read_from_the_beginning_of_the_inputs(kit: Kit) -> None:
    kit.start(session_id="one", input_data='{"n":[1,{"topic":"inner"}],"topic":"Ships \\"x\\""}')
    kit.start(session_id="two", input_data='{"n":{"topic":"inner"}}')
    kit.start(session_id="three", input_data=json.dumps({"text": "x" * 5000, "topic": "late"}))
    assert kit.store.topics(["one", "two", "three", "nobody"]) == {"one": 'Ships "x"'}
    assert kit.store.topics([]) == {}


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
        before = (page[-1]["listed_at"], page[-1]["listed_id"])

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
