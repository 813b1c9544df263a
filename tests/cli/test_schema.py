"""`cascade schema`."""

from __future__ import annotations

import json

from cli.kit import Project


def test_the_schema_of_the_format_is_printed_without_an_app(project: Project) -> None:
    result = project.run("schema", app=False)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["title"] == "Cascade"
    assert project.run("schema", "--json").stdout == result.stdout
