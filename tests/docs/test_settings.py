"""The page of settings names each one with its default, and no other."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from celery_cascade.config import CascadeConfig
from celery_cascade.definition.reader import read_cascade
from celery_cascade.definition.source import from_text

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_lists_every_setting_and_no_other() -> None:
    """R79: every key documented."""
    listed = re.findall(r"^\| `cascade_(\w+)` ", (DOCS / "settings.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(field.name for field in fields(CascadeConfig))


def test_the_example_of_a_cascade_file_is_one() -> None:
    text = (DOCS / "cascade-files.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    cascade = read_cascade(from_text(example, source_format="yaml"))
    assert [step.id for step in cascade.steps] == ["charge", "label"]
    assert cascade.steps[0].retry.errors == ("TimeoutError",)
