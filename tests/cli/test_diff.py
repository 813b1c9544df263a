"""`diff`, `versions` and `definition --sha`."""

from __future__ import annotations

import hashlib

import pytest

from cli.kit import ORDER, Project

EDITED = ORDER.replace("y: 10", "y: 20")


@pytest.fixture
def two(project: Project) -> tuple[str, str]:
    """The same cascade before and after its file was edited, with other inputs."""
    first = project.ended()
    (project.folder / "order.yaml").write_text(EDITED)
    result = project.run("run", "order.yaml", "-i", "n=2", "--local", "--session", "second-run")
    assert result.exit_code == 0
    return first, "second-run"


def test_two_runs_of_the_same_are_the_same(project: Project) -> None:
    """Exit 0, as diff does; nothing on stdout."""
    result = project.run("diff", project.ended(), project.ended())
    assert (result.exit_code, result.stdout) == (0, "")
    assert "the same" in result.stderr


def test_what_differs_is_told_by_path_and_the_definition_as_a_unified_diff(
    project: Project, two: tuple[str, str]
) -> None:
    """R21. Exit 1, as diff does."""
    result = project.run("diff", *two)
    assert result.exit_code == 1, result.output
    text = result.stdout
    assert text.startswith(f"--- {two[0]}  order  completed")
    assert f"+++ {two[1]}" in text
    assert "inputs.n: 1 → 2" in text
    assert "outputs.two: 12 → 23" in text
    assert "output.sum: 12 → 23" in text
    assert '  -    with: {x: "{{ outputs.one }}", y: 10}\n  +    with: {x: "{{ outputs.one }}", y: 20}\n' in text
    assert "Took " in result.stderr
    assert "\x1b[" not in result.output


def test_only_some_parts_are_looked_at(project: Project, two: tuple[str, str]) -> None:
    found = project.json("diff", *two, "--only", "inputs", "--only", "status,path", code=1)["diff"]
    assert (found["same"], found["differs"]) == (False, ["inputs"])
    assert "outputs" not in found
    assert project.run("diff", *two, "--only", "path").exit_code == 0
    wrong = project.run("diff", *two, "--only", "input")
    assert wrong.exit_code == 2
    assert "did you mean 'inputs'" in wrong.stderr


def test_json_has_it_whole_and_words_are_cut(project: Project) -> None:
    ids = []
    for letter in "ab":
        result = project.run("run", "order.yaml", "-i", "n=1", "-i", f"word={letter * 5000}", "--detach")
        ids.append(result.stdout.strip())
    change = {"path": "inputs.word", "a": "a" * 5000, "b": "b" * 5000}
    assert project.json("diff", *ids, code=1)["diff"]["inputs"] == [change]
    assert "5.0 kB" in project.run("diff", *ids).stdout


def test_a_long_list_of_changes_is_cut_with_a_count(project: Project) -> None:
    ids = []
    for number in (0, 1):
        steps = [{"id": "a", "task": "shop.echo", "with": {"value": {f"k{n}": number for n in range(300)}}}]
        ids.append(project.cascades.run({"cascade": "big", "steps": steps}).id)
    text = project.run("diff", *ids, "--only", "outputs").stdout
    assert "… and 500 more changes" in text
    assert len(project.json("diff", *ids, "--only", "outputs", code=1)["diff"]["outputs"]) == 600


def test_words_and_prefixes_name_sessions_and_unknown_ones_are_trouble(project: Project, two: tuple[str, str]) -> None:
    """Exit 3: more than 1, as diff's trouble."""
    assert project.run("diff", two[0][:8], "@last").exit_code == 1
    result = project.run("diff", "@last", "nope-123")
    assert result.exit_code == 3
    assert "nope-123" in result.stderr


def test_a_fork_beside_its_origin_says_where_they_part(project: Project) -> None:
    """What it kept is the same; a rerun shares nothing but the bytes and the inputs."""
    origin = project.ended()
    fork = project.cascades.session(origin).fork(at="two", session_id="the-fork", inputs={"word": "other"})
    assert project.run("resume", fork.id, "--local").exit_code == 0
    found = project.json("diff", origin, fork.id, code=1)["diff"]
    assert found["parts_at"] == {"session_id": origin, "version": 2, "step": "two", "how": "fork", "kept": ["one"]}
    assert found["differs"] == ["inputs", "outputs"]
    words = project.run("diff", fork.id, origin).stderr
    assert f"They part at step two, after version 2 of session {origin}. Not run again: one." in words

    again = project.cascades.session(origin).rerun(session_id="again")
    assert project.run("resume", again.id, "--local").exit_code == 0
    found = project.json("diff", origin, again.id)["diff"]
    assert (found["parts_at"]["how"], found["parts_at"]["version"], found["same"]) == ("rerun", 0, True)


def test_python_has_the_same_diff(project: Project, two: tuple[str, str]) -> None:
    found = project.cascades.diff(*two)
    assert found == project.json("diff", *two, code=1)["diff"]
    waits = project.cascades.session(project.started())
    waits.context["seen"] = True
    assert waits.diff(two[1], only="context")["context"] == [{"path": "context.seen", "a": True}]
    assert waits.diff(waits)["same"]


# -- versions
def test_versions_lists_distinct_definitions_newest_first(project: Project, two: tuple[str, str]) -> None:
    """R21: each session still shows its own text."""
    project.ended()
    found = project.json("versions", "order")["versions"]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (EDITED, ORDER)]
    assert [one["sha256"] for one in found] == digests
    assert [one["sessions"] for one in found] == [2, 1]
    assert all(one["config_path"] == str(project.folder / "order.yaml") for one in found)
    assert found[0]["last_used_at"] > found[0]["first_seen_at"] > found[1]["last_used_at"]
    assert found == project.cascades.versions("order")
    assert project.run("definition", two[0], "--raw").stdout == ORDER
    assert project.run("definition", two[1], "--raw").stdout == EDITED

    lines = project.run("versions", "order").stdout.splitlines()
    assert [line[:12] for line in lines[1:]] == [digest[:12] for digest in digests]
    for digest, text in zip(digests, (EDITED, ORDER), strict=True):
        assert project.run("definition", "--sha", digest[:12], "--raw").stdout == text


def test_an_unknown_cascade_is_not_found_and_the_nearest_is_named(project: Project) -> None:
    project.ended()
    result = project.run("versions", "ordr")
    assert result.exit_code == 3
    assert "did you mean 'order'" in result.stderr
    assert project.json("versions", "", code=2)["error"]["type"] == "UsageError"


def test_a_definition_is_named_by_a_session_or_by_its_sha_never_both(project: Project) -> None:
    session_id = project.ended()
    for arguments, code, words in (
        ([], 2, "--sha"),
        ([session_id, "--sha", "abcdef"], 2, "--sha"),
        (["--sha", "nothex"], 2, "sha256"),
        (["--sha", "abcdef01"], 3, "abcdef01"),
    ):
        result = project.run("definition", *arguments)
        assert (result.exit_code, words in result.stderr) == (code, True), result.stderr


def test_a_secret_that_differs_is_told_and_not_shown(project: Project) -> None:
    """R145."""
    ids = []
    for word in ("s3cret-one", "t0p-secret-two"):
        echo = {"id": "a", "task": "shop.echo", "with": {"value": {"password": word, "n": 1}}}
        session = project.cascades.start(
            {"cascade": "c", "steps": [echo], "inputs": {"password": "string"}}, {"password": word}
        )
        session.context["api_key"] = word
        assert project.run("resume", session.id, "--local").exit_code == 0
        ids.append(session.id)
    found = project.json("diff", *ids, code=1)["diff"]
    for part, path in (
        ("inputs", "inputs.password"),
        ("outputs", "outputs.a.password"),
        ("context", "context.api_key"),
    ):
        assert {"path": path, "a": "[redacted]", "b": "[redacted]"} in found[part]
    text = project.run("diff", *ids).output
    assert "s3cret-one" not in text + str(found)
    assert "t0p-secret-two" not in text + str(found)
    assert project.cascades.diff(*ids, redact=False)["inputs"][0]["a"] == "s3cret-one"
