"""Finding sessions in Python: filters in plain words, pages, cursors (R29, R40, R129, R138, D6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celery_cascade import Session
from celery_cascade.errors import UsageError
from celery_cascade.persistence import codec
from celery_cascade.sessions.needles import needles
from sessions.kit import Kit


def three(kit: Kit) -> list[Session]:
    return [
        kit.start("a", inputs={"n": n}, tags=[word], mode=word, thread_id=f"t{n}", resource_id="shop", name=name)
        for n, word, name in ((7, "night", "seven"), (70, "day", None), (8, "day", None))
    ]


def found(kit: Kit, **wanted: Any) -> list[Session]:
    return list(kit.cascades.sessions(**wanted))


def test_every_filter_can_be_said_in_python(kit: Kit) -> None:
    """R29, R40, R129."""
    seven, seventy, eight = three(kit)
    now = datetime.now(UTC)
    assert found(kit) == [eight, seventy, seven]
    assert found(kit, inputs={"n": 7}) == found(kit, inputs="n=7") == [seven]
    assert found(kit, tag="day") == found(kit, tag=["day"]) == found(kit, mode="day") == [eight, seventy]
    assert found(kit, thread_id="t7", resource_id="shop") == [seven]
    assert found(kit, step="a", status="running") == [eight, seventy, seven]
    assert found(kit, root=eight.id) == [eight]
    assert found(kit, parent=eight.id) == found(kit, forked_from=eight.id) == found(kit, error="x") == []
    assert found(kit, since=timedelta(hours=1), until=now + timedelta(hours=1)) == [eight, seventy, seven]
    assert found(kit, since=now + timedelta(hours=1)) == []


def test_a_page_tells_whether_there_are_more_and_where_they_are(kit: Kit) -> None:
    """D6."""
    sessions = three(kit)[::-1]
    page = kit.cascades.sessions(limit=2, tag=["day"])
    assert (len(page), page.next_cursor, page.total_sessions, page.total_exact) == (2, None, 2, True)
    page = kit.cascades.sessions(limit=2)
    assert (page.total_sessions, page.total_exact) == (3, True)
    assert list(page) == [page[0], page[1]] == sessions[:2]
    rest = kit.cascades.sessions(limit=2, cursor=page.next_cursor)
    assert (list(rest), rest.next_cursor, rest.total_sessions) == (sessions[2:], None, 3)
    assert not kit.cascades.sessions(limit=0)


def test_counting_has_an_end_and_says_so(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: `total_exact` is false beyond it."""
    monkeypatch.setattr("celery_cascade.sessions.page.COUNTED", 2)
    three(kit)
    page = kit.cascades.sessions(limit=1)
    assert (page.total_sessions, page.total_exact) == (2, False)
    by_text = kit.cascades.sessions(limit=1, inputs="n")
    assert (by_text.total_sessions, by_text.total_exact) == (1, False)


def test_summaries_say_what_it_is_about_and_whether_anybody_runs_it(kit: Kit) -> None:
    """R138, D6: input topic, else name, else cascade."""
    three(kit)
    kit.start("a", inputs={"n": 1, "topic": "Ships"})
    shown = kit.cascades.sessions().summaries
    assert [one["topic"] for one in shown] == ["Ships", shown[0]["cascade_id"], shown[0]["cascade_id"], "seven"]
    assert all(one["is_zombie"] and not one["can_resume"] for one in shown)
    assert set(kit.cascades.sessions().to_dict()) == {
        "sessions", "count", "total_sessions", "total_exact", "next_cursor",
    }  # fmt: skip


@pytest.mark.parametrize("cursor", ["", "x", "e30", "W10", "é", 5, "WyJhIiwiYiIsImMiLCJkIl0"])
def test_a_cursor_that_is_none_is_a_usage_error(kit: Kit, cursor: Any) -> None:
    with pytest.raises(UsageError, match="cursor"):
        kit.cascades.sessions(cursor=cursor)


def test_a_cursor_of_another_list_is_refused(kit: Kit) -> None:
    three(kit)
    cursor = kit.cascades.sessions(limit=1).next_cursor
    with pytest.raises(UsageError, match="other filters"):
        kit.cascades.sessions(status="active", cursor=cursor)


@pytest.mark.parametrize(
    "wanted",
    [
        {"tag": 5},
        {"tag": ""},
        {"inputs": 5},
        {"inputs": ""},
        {"inputs": {5: 1}},
        {"error": "a\x00b"},
        {"step": ["a"]},
        {"since": datetime(2026, 5, 17)},
        {"until": "yesterday"},
        {"limit": -1},
        {"parent": "x" * 37},
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_a_usage_error(kit: Kit, wanted: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        kit.cascades.sessions(**wanted)


@pytest.mark.parametrize(
    ("value", "asked", "there"),
    [
        ({"n": 7}, "n=7", True),
        ({"n": "7"}, "n=7", True),
        ({"n": 70}, "n=7", False),
        ({"xn": 7}, "n=7", False),
        ({"n": True}, "n=true", True),
        ({"word": 'a "b" c'}, 'word=a "b" c', True),
        ({"word": 'a "b" c'}, 'a "b"', True),
        ({"word": "zürich"}, "zürich", True),
        ({"url": "http://h/?q=1"}, "q=1", True),
        ({"a": {"n": 7}}, "n=7", True),
        ({"n": [1, 2]}, "n=[1,2]", True),
        ({"n": [1, 2]}, "n=[1, 2]", True),
        ({"word": "x"}, {"word": "x"}, True),
        ({"word": "xy"}, {"word": "x"}, False),
        ({"at": datetime(2026, 5, 17, tzinfo=UTC)}, {"at": datetime(2026, 5, 17, tzinfo=UTC)}, True),
        ({"n": 7, "m": 8}, {"m": 8, "n": 7}, True),
    ],
)
def test_inputs_are_found_as_the_store_writes_them(value: Any, asked: Any, there: bool) -> None:
    """R29."""
    text = codec.encode(value, what="inputs")
    assert all(any(one in text for one in group) for group in needles(asked)) is there
