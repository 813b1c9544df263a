"""`cascade validate`."""

from __future__ import annotations

import json

from cli.kit import Project


def write(project: Project, name: str, text: str) -> str:
    (project.folder / name).write_text(text)
    return name


def test_a_good_file_is_told_on_stdout(project: Project) -> None:
    result = project.run("validate", "order.yaml")
    assert (result.exit_code, result.stdout) == (0, "order.yaml: ok, cascade order with 2 steps\n")


def test_no_app_is_needed(project: Project) -> None:
    assert project.run("validate", "order.yaml", app=False).exit_code == 0


def test_an_error_is_told_with_its_place_and_the_line(project: Project) -> None:
    file = write(project, "bad.yaml", "cascade: bad\nsteps:\n  - {id: a, taks: shop.add}\n")
    result = project.run("validate", file, app=False)
    assert result.exit_code == 6
    assert "bad.yaml:3:" in result.stderr
    assert "^" in result.stderr
    assert result.stdout == ""


def test_warnings_do_not_fail(project: Project) -> None:
    """R147: what YAML reads otherwise than it looks."""
    text = "cascade: w\nsteps:\n  - {id: a, task: shop.echo, with: {value: no}}\n"
    result = project.run("validate", write(project, "w.yaml", text))
    assert result.exit_code == 0
    assert "Warning: w.yaml:3:" in result.stderr
    assert "ok" in result.stdout


def test_duplicate_keys_are_errors(project: Project) -> None:
    """R147."""
    file = write(project, "d.yaml", "cascade: d\ncascade: e\nsteps:\n  - {id: a, task: shop.echo}\n")
    assert project.run("validate", file).exit_code == 6


def test_every_unknown_task_is_named_when_an_app_is_given(project: Project) -> None:
    text = "cascade: t\nsteps:\n  - {id: a, task: shop.ad}\n  - {id: b, task: shop.ecoh}\n"
    file = write(project, "t.yaml", text)
    result = project.run("validate", file)
    assert result.exit_code == 6
    assert "did you mean 'shop.add'?" in result.stderr
    assert "did you mean 'shop.echo'?" in result.stderr
    assert project.run("validate", file, app=False).exit_code == 0


def test_several_files_are_all_told(project: Project) -> None:
    result = project.run("validate", "order.yaml", "nope.yaml", "broken.yaml")
    assert result.exit_code == 6
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["order.yaml", "broken.yaml"]
    assert "nope.yaml: there is no such file" in result.stderr


def test_json_has_a_finding_for_each(project: Project) -> None:
    found = json.loads(project.run("validate", "order.yaml", "nope.yaml", "--json").stdout)
    assert (found["schema"], found["valid"]) == ("cascade/1", False)
    assert [file["valid"] for file in found["files"]] == [True, False]
    assert set(found["files"][0]) == {"valid", "file", "cascade_id", "steps", "errors", "warnings"}
    assert found["files"][1]["errors"][0]["message"] == "nope.yaml: there is no such file"


def test_json_errors_of_any_verb_bear_file_line_and_column(project: Project) -> None:
    """R150: for editors and CI, which should not have to read words."""
    file = write(project, "bad.yaml", "cascade: cascade files\nsteps:\n  - {id: a, taks: t}  # with: cascade ls\n")
    found = project.json("run", file, code=6)["error"]
    assert (found["file"], found["line"], found["column"]) == ("bad.yaml", 3, 13)
    assert found["hint"].split("\n") == ["  - {id: a, taks: t}  # with: cascade ls", " " * 12 + "^"]
    assert "file" not in project.json("run", "nope.yaml", code=6)["error"]
