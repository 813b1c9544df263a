"""Names that differ in blanks at their end: some databases hold them for the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from celery_cascade.errors import DefinitionError, SessionNotFound, UsageError
from sessions.kit import Kit


def test_a_resource_with_a_blank_at_its_end_is_not_another_ones(any_kit: Kit) -> None:
    """R102: `ann ` is not ann; MariaDB and MySQL compare them as the same, so such a name is refused."""
    thread = uuid.uuid4().hex
    any_kit.run("a", thread_id=thread, resource_id="ann")
    threads = any_kit.cascades.threads
    for name in ("ann ", "ann  "):
        with pytest.raises(UsageError, match="blank"):
            threads.get(thread, name)
        with pytest.raises(UsageError, match="blank"):
            any_kit.run("a", thread_id=thread, resource_id=name)
        with pytest.raises(UsageError, match="blank"):
            any_kit.run("a", thread_id=f"{thread} ", resource_id="ann")
        with pytest.raises(UsageError, match="blank"):
            any_kit.cascades.sessions(resource_id=name)
    assert threads.get(thread, " ann") is None


GIVEN = {"idempotency_key": "key", "tags": ["nightly", "red"], "mode": "batch", "session_id": "mine"}


@pytest.mark.parametrize("name", GIVEN)
def test_no_name_that_sessions_are_told_apart_by_has_a_blank_at_its_end(any_kit: Kit, name: str) -> None:
    """R12, R28: one store says conflict where another starts a second session; so it is refused, and nothing begun."""
    value, word = GIVEN[name], uuid.uuid4().hex[:8]
    clean = [f"{word}{one}" for one in value] if isinstance(value, list) else f"{word}{value}"
    blank = [*clean[:-1], f"{clean[-1]} "] if isinstance(clean, list) else f"{clean} "
    any_kit.run("a", **{name: clean})
    before = len(any_kit.cascades.sessions(limit=500))
    with pytest.raises(UsageError, match=r"blank|not possible"):
        any_kit.run("a", **{name: blank})
    assert len(any_kit.cascades.sessions(limit=500)) == before


def test_a_cascade_with_a_blank_at_its_end_is_not_read(any_kit: Kit) -> None:
    """R1: the file says where."""
    with pytest.raises(DefinitionError, match="blanks around it"):
        any_kit.cascades.start({"cascade": "order ", "steps": [{"id": "a", "task": "add"}]})


ASKED: dict[str, Callable[[Kit, str], Any]] = {
    "tag": lambda kit, word: kit.cascades.sessions(tag=f"{word} "),
    "mode": lambda kit, word: kit.cascades.sessions(mode=f"{word} "),
    "cascade": lambda kit, _: kit.cascades.sessions(cascade="t "),
    "step": lambda kit, _: kit.cascades.sessions(step="a "),
    "versions": lambda kit, _: kit.cascades.versions("t "),
    "prune": lambda kit, _: kit.cascades.prune(cascade="t ", dry_run=True),
    "forks": lambda kit, word: kit.cascades.sessions(forked_from=f"{word} "),
    "id": lambda kit, word: kit.cascades.session(f"{word} ").status,
}


@pytest.mark.parametrize("what", ASKED)
def test_nothing_is_found_by_a_name_with_a_blank_too_many(any_kit: Kit, what: str) -> None:
    """R143: the same answer on each database: what is asked for cannot be there."""
    word = uuid.uuid4().hex
    any_kit.run("a", session_id=word, tags=[word], mode=word)
    with pytest.raises((UsageError, SessionNotFound)):
        ASKED[what](any_kit, word)


def test_words_for_people_may_end_as_they_like(any_kit: Kit) -> None:
    """Nothing is told apart by them."""
    session = any_kit.run("a", name="first try ")
    assert session.to_dict()["name"] == "first try "
    any_kit.start("a").cancel("enough ", actor="ann ")
