"""The page of settings is what the settings object says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from celery_cascade.cli.settings_page import page
from celery_cascade.config import CascadeConfig, Retention
from celery_cascade.definition.reader import read_cascade
from celery_cascade.definition.source import from_text
from celery_cascade.errors import DefinitionError

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_made_from_the_settings_object() -> None:
    """R79: every key documented with its default; nobody forgets the page."""
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == page(), "write it anew with: scripts/docs"


def test_the_page_has_a_part_for_every_setting() -> None:
    """R79."""
    text = page()
    assert re.findall(r"^## `cascade_(\w+)`$", text, flags=re.MULTILINE) == [one.name for one in fields(CascadeConfig)]
    assert all(f"\n| `{one.name}` | " in text for one in fields(Retention))
    assert text.count("\n- Without it: ") == text.count("\n- Change it when ") == len(fields(CascadeConfig))


def test_the_example_on_the_page_can_be_set() -> None:
    (example,) = re.findall(r"```python\napp\.conf\.(\w+) = (.*?)\n```", page(), flags=re.DOTALL)
    assert CascadeConfig.from_mapping({example[0]: eval(example[1])}, {}).retention == Retention(
        completed=3, failed=None, keep_last=100
    )


def test_the_example_of_a_cascade_file_is_one() -> None:
    text = (DOCS / "cascade-files.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(cascade:.*?)```", text, flags=re.DOTALL)
    cascade = read_cascade(from_text(example, source_format="yaml"))
    assert [step.id for step in cascade.steps] == ["charge", "label"]
    assert cascade.steps[0].retry.errors == ("TimeoutError",)


def test_the_error_that_the_page_shows_is_the_one_that_is_raised() -> None:
    """R150."""
    text = (DOCS / "cascade-files.md").read_text(encoding="utf-8")
    (message, line, caret) = re.findall(r"^Error: order\.yaml(:.*)\n(.*)\n( *\^)$", text, flags=re.MULTILINE)[0]
    definition = (
        "cascade: order\nsteps:\n  - id: charge\n    task: shop.charge\n    retry:\n      max_attempts: 3\n" + line
    )
    with pytest.raises(DefinitionError) as caught:
        read_cascade(from_text(definition))
    assert f"{caught.value.message}\n{caught.value.excerpt}" == f"<inline>{message}\n{line}\n{caret}"
