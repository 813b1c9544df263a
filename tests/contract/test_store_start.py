"""start: definition, session, head, first steps and joins in one transaction."""

from __future__ import annotations

from datetime import timedelta

import pytest

from celery_cascade.errors import SessionConflict, SessionNotFound
from celery_cascade.persistence import tables
from celery_cascade.persistence.rows import NewStep, StepKey
from contract.kit import NOON, Kit, joins, new_session, queued, skipped


def test_a_start_writes_session_head_roots_and_joins(kit: Kit) -> None:
    """R7: everything is there before anybody could publish a message."""
    rows = [*queued("a", "b"), *joins(both=2), *skipped("never")]
    session = kit.start(rows, total=5, closed_steps=1, worker="w1", input_data='{"n":7}', config_path="/x/order.yaml")

    head, found = kit.head(session), kit.rows(session)
    assert (head["status"], head["version"], head["open_steps"], head["total_steps"]) == ("active", 1, 4, 5)
    assert (head["current_phase"], head["current_step"], head["halt"]) == ("init", 0, None)
    assert kit.statuses(session) == {"a": "queued", "b": "queued", "both": "pending", "never": "skipped"}
    assert found["a"]["wake_at"] == NOON + timedelta(seconds=60)
    assert (found["a"]["worker"], found["a"]["attempt"], found["a"]["sends"]) == ("w1", 1, 1)
    assert (found["both"]["needs_left"], found["both"]["wake_at"], found["both"]["worker"]) == (2, None, None)
    assert (found["never"]["reason"], found["never"]["finished_at"]) == ("when", NOON)
    row = kit.store.session(session)
    assert (row["input_data"], row["config_path"], row["created_at"]) == ('{"n":7}', "/x/order.yaml", NOON)


def test_a_start_without_resend_leaves_its_steps_to_the_caller(kit: Kit) -> None:
    session = kit.start(queued("a"), resend_after=None)

    assert kit.row(session)["wake_at"] is None
    kit.clock.forward(days=1)
    assert kit.store.take_due(worker="w1", first=60) == []
    assert [step.key for step in kit.store.queued_steps(session)] == [StepKey(session, "a")]


def test_the_same_nonce_twice_is_one_session_and_no_error(kit: Kit) -> None:
    """Rule 2: a commit whose answer was lost is recognised."""
    new = new_session()

    assert kit.store.start(new, queued("a"))
    assert kit.store.start(new, queued("a"))

    assert kit.column(tables.sessions.c.session_id) == [new.session_id]
    assert kit.statuses(new.session_id) == {"a": "queued"}


def test_a_taken_id_is_a_conflict_and_nothing_is_written(kit: Kit) -> None:
    """R12: never a second row."""
    session = kit.start(queued("a"), session_id="test_replay_001")

    with pytest.raises(SessionConflict, match="test_replay_001 exists already"):
        kit.start(queued("b"), session_id=session, digest="e" * 64, body=b"other")

    assert kit.statuses(session) == {"a": "queued"}
    assert kit.column(tables.definitions.c.digest) == ["d" * 64]


def test_a_taken_idempotency_key_names_the_session_that_has_it(kit: Kit) -> None:
    first = kit.start(idempotency_key="order-7")

    with pytest.raises(SessionConflict, match=f"'order-7' belongs to session {first}"):
        kit.start(idempotency_key="order-7")

    assert kit.column(tables.sessions.c.session_id) == [first]
    assert kit.column(tables.steps.c.session_id) == [first]


def test_sessions_without_an_idempotency_key_do_not_collide(kit: Kit) -> None:
    assert kit.start() != kit.start()


def test_ids_that_differ_in_case_are_two_sessions(kit: Kit) -> None:
    """DESIGN 5: `Charge` and `charge` never collide."""
    kit.start(queued("Charge", "charge"), session_id="Order")
    kit.start(queued("a"), session_id="order")

    assert sorted(kit.statuses("Order")) == ["Charge", "charge"]
    assert sorted(kit.statuses("order")) == ["a"]


def test_a_definition_is_stored_once_per_digest(kit: Kit) -> None:
    """D5: no copy per run."""
    for _ in range(3):
        kit.start()
    kit.start(digest="e" * 64, body=b"\xef\xbb\xbfother\r\n")

    assert sorted(kit.column(tables.definitions.c.digest)) == ["d" * 64, "e" * 64]
    assert bytes(kit.store.definition("e" * 64)["body"]) == b"\xef\xbb\xbfother\r\n"


@pytest.mark.parametrize("hostile", ["x' OR '1'='1", "'; DROP TABLE s; --", "%", "a_b", 'x"y', "é\\'"])
def test_a_hostile_id_is_only_an_id(kit: Kit, hostile: str) -> None:
    """R30: SQL is parameterised everywhere."""
    other = kit.start(queued("a"))

    with pytest.raises(SessionNotFound):
        kit.store.session(hostile)
    assert kit.store.claim(StepKey(hostile, "a"), attempt=1, token="t", worker="w", runner="r") is None
    assert kit.store.claim(StepKey(other, hostile), attempt=1, token="t", worker="w", runner="r") is None

    kit.start(queued(hostile), session_id=hostile)
    moved = kit.run(hostile, hostile, output=f'"{hostile}"')
    assert moved.open_steps == 0
    assert kit.row(hostile, hostile)["output"] == f'"{hostile}"'
    assert kit.statuses(other) == {"a": "queued"}


def test_a_start_costs_its_roots_and_joins_and_not_its_length(kit: Kit) -> None:
    """DESIGN 3: rows when they are needed."""
    session = kit.start(queued("a"), total=1000)

    assert kit.statuses(session) == {"a": "queued"}
    assert kit.head(session)["open_steps"] == 1000


def test_a_join_whose_needs_were_all_skipped_is_queued_by_the_start(kit: Kit) -> None:
    rows = [*skipped("a", "b"), NewStep(step="both", status="queued", task="t")]
    session = kit.start(rows, total=3, closed_steps=2)

    assert kit.head(session)["open_steps"] == 1
    assert kit.claim(session, "both").call is None


def test_expires_in_is_added_to_the_clock_of_the_store(kit: Kit) -> None:
    assert kit.head(kit.start(expires_in=90.0))["expires_at"] == NOON + timedelta(seconds=90)
    assert kit.head(kit.start())["expires_at"] is None


def test_large_and_foreign_texts_come_back_as_they_were(kit: Kit) -> None:
    """R42: over 1 MB, and every character."""
    text = '{"t":"' + "é€🧁" * 120_000 + '"}'
    session = kit.start(input_data=text, name="Ж" * 255, tags='["ß"]')

    row = kit.store.session(session)
    assert (row["input_data"], row["name"], row["tags"]) == (text, "Ж" * 255, '["ß"]')
