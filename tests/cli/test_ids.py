"""Which session an argument means, and what is said when it means none."""

from __future__ import annotations

import json

import pytest

from cli.kit import Project

VERBS = ["show", "watch", "resume", "cancel", "definition"]


def test_a_whole_id_finds_its_session_however_short(project: Project) -> None:
    project.started("--session", "a")
    assert project.json("show", "a")["session"]["session_id"] == "a"


def test_six_characters_of_an_id_are_enough(project: Project) -> None:
    session_id = project.started()
    assert project.json("show", session_id[:6])["session"]["session_id"] == session_id


def test_fewer_are_not_and_it_says_so(project: Project) -> None:
    result = project.run("show", project.started()[:5])
    assert result.exit_code == 3
    assert "from 6 characters on" in result.stderr


def test_an_ambiguous_beginning_is_a_conflict_that_names_the_candidates(project: Project) -> None:
    for number in (1, 2):
        project.started("--session", f"order-{number}")
    result = project.run("cancel", "order-")
    assert result.exit_code == 4
    assert "order-1" in result.stderr
    assert "order-2" in result.stderr
    assert project.json("ls", "--status", "cancelled")["count"] == 0


def test_a_whole_id_wins_over_longer_ones_that_begin_so(project: Project) -> None:
    for name in ("order-1", "order-11"):
        project.started("--session", name)
    assert project.json("show", "order-1")["session"]["session_id"] == "order-1"


def test_case_and_wildcards_are_no_match(project: Project) -> None:
    project.started("--session", "Order-one")
    for text in ("order-", "Order%", "Order_", "______"):
        assert project.run("show", text).exit_code == 3


def test_last_and_last_failed_are_words(project: Project) -> None:
    failed = project.ended("broken.yaml")
    newest = project.started()
    assert project.json("show", "@last")["session"]["session_id"] == newest
    assert project.json("show", "@last-failed")["session"]["session_id"] == failed


def test_a_word_that_is_none_is_a_usage_error_and_an_empty_store_has_no_last(project: Project) -> None:
    assert project.run("show", "@first").exit_code == 2
    for word in ("@last", "@last-failed"):
        result = project.run("show", word)
        assert result.exit_code == 3
        assert "yet" in result.stderr


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("text", ["nope", "x' OR '1'='1", "a" * 400, "é", "", "../../etc/passwd", "%%%%%%%"])
def test_an_unknown_id_is_not_found_and_says_how_many_there_are(project: Project, verb: str, text: str) -> None:
    """R75, R114: nothing is started, the words name the id and how to list."""
    result = project.run(verb, text)
    assert result.exit_code == 3
    assert f"Session '{text}' not found. Available sessions: 0" in result.stderr
    assert f"List them with: cascade -A {project.name} ls" in result.stderr
    assert result.stdout == ""


def test_not_found_in_json_is_an_object_on_stdout(project: Project) -> None:
    result = project.run("show", "nope", "--json")
    assert result.exit_code == 3
    error = json.loads(result.stdout)["error"]
    assert sorted(error) == ["hint", "message", "type"]
    assert error["type"] == "SessionNotFound"
