"""`cascade validate`."""

from __future__ import annotations

import json

from cli.kit import Project, commands_in


def write(project: Project, name: str, text: str) -> str:
    (project.folder / name).write_text(text)
    return name


def test_a_good_file_is_told_on_stdout(project: Project) -> None:
    result = project.run("validate", "order.yaml")
    assert (result.exit_code, result.stdout) == (0, "order.yaml: ok, cascade order with 2 steps\n")


def test_no_app_is_needed(project: Project) -> None:
    result = project.run("validate", "order.yaml", app=False)
    assert result.exit_code == 0
    assert "The tasks were not looked at, for want of an app" in result.stderr
    assert project.run("validate", "order.yaml").stderr == ""


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
    assert found["excerpt"].split("\n") == ["  - {id: a, taks: t}  # with: cascade ls", " " * 12 + "^"]
    assert commands_in(found["hint"]) == [["validate", "bad.yaml"]]
    assert "file" not in project.json("run", "nope.yaml", code=3)["error"]


def test_a_finding_has_its_place_in_fields(project: Project) -> None:
    """R150: for editors and CI."""
    text = (
        "cascade: p\nsteps:\n  - {id: a, task: shop.ad, with: {value: no}}\n  - {id: b, task: shop.add, with: {z: 1}}\n"
    )
    (found,) = project.json("validate", write(project, "p.yaml", text), code=6)["files"]
    assert [(one["file"], one["line"], one["column"]) for one in found["errors"]] == [
        ("p.yaml", 3, 19),
        ("p.yaml", 4, 36),
    ]
    assert [(one["line"], one["column"]) for one in found["warnings"]] == [(3, 42)]
    assert set(found["errors"][0]) == {"message", "file", "line", "column", "excerpt", "hint"}
    assert found["errors"][0]["excerpt"].splitlines()[1] == " " * 18 + "^"


def test_strict_counts_warnings_as_errors(project: Project) -> None:
    """R147."""
    file = write(project, "w.yaml", "cascade: w\nsteps:\n  - {id: a, task: shop.echo, with: {value: 22:30}}\n")
    result = project.run("validate", file, "--strict")
    assert result.exit_code == 6
    assert "Warning: w.yaml:3:" in result.stderr
    assert result.stdout == ""
    assert project.run("validate", "order.yaml", "--strict").exit_code == 0


def test_a_pattern_that_the_shell_left_alone_is_followed(project: Project) -> None:
    (project.folder / "deep" / "er").mkdir(parents=True)
    write(project, "deep/er/one.yaml", "cascade: one\nsteps: [{id: a, task: shop.echo}]\n")
    result = project.run("validate", "**/*.yaml", "order.yaml")
    names = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert names == ["broken.yaml", "deep/er/one.yaml", "order.yaml", "sleepy.yaml"]
    result = project.run("validate", "no/*.yaml")
    assert result.exit_code == 6
    assert "no/*.yaml: no file is so called" in result.stderr


def test_stdin_is_a_file_too(project: Project) -> None:
    """For editors and hooks, which have the text and not yet the file."""
    result = project.run("validate", "-", input="cascade: s\nsteps:\n  - {id: a, taks: b}\n")
    assert result.exit_code == 6
    assert "<stdin>:3:13: step 'a': unknown key 'taks'" in result.stderr
    result = project.run("validate", "-", input="cascade: s\nsteps: [{id: a, task: shop.echo}]\n")
    assert result.stdout == "<stdin>: ok, cascade s with 1 step\n"


def test_arguments_that_a_task_does_not_take_are_told_before_the_start(project: Project) -> None:
    """R150: by `validate`, and by a start, which writes nothing."""
    file = write(project, "a.yaml", "cascade: a\nsteps:\n  - {id: a, task: shop.add, with: {x: 1, yy: 2}}\n")
    said = "a.yaml:3:42: step 'a': task 'shop.add' takes no argument 'yy'; did you mean 'y'?"
    assert said in project.run("validate", file).stderr
    result = project.run("run", file)
    assert result.exit_code == 6
    assert said in result.stderr
    assert project.json("ls")["sessions"] == []


def test_a_phase_too_long_for_its_column_is_told(project: Project) -> None:
    """D13: at most 50 characters."""
    file = write(project, "ph.yaml", f"cascade: p\nsteps:\n  - {{id: a, task: shop.echo, phase: {'p' * 51}}}\n")
    result = project.run("validate", file)
    assert result.exit_code == 6
    assert "phase has 51 characters; at most 50 are allowed" in result.stderr
