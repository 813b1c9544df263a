"""The page of the command line is what the commands say; tests/cli/test_documented_examples.py runs its examples."""

from __future__ import annotations

import re
from pathlib import Path

from celery_cascade.cli.group import VERBS
from celery_cascade.cli.page import page

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_made_from_the_commands() -> None:
    """R143: every verb with its help, options, exit codes and examples; nobody forgets the page."""
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew with: scripts/docs"


def test_every_verb_has_its_part_with_a_usage_line_and_an_example() -> None:
    text = page()
    for verb in VERBS:
        part = text.partition(f"\n## `{verb}`\n")[2].partition("\n## ")[0]
        assert re.search(rf"^(celery -A proj )?cascade {verb} \[OPTIONS\]", part, re.MULTILINE), verb
        assert re.search(r"^\$ .*\bcascade ", part, re.MULTILINE), verb


def test_the_exit_codes_of_the_help_are_all_told() -> None:
    codes = re.findall(r"^\| (\d+) \| (.+) \|$", page().partition("## Exit codes")[2].partition("## Verbs")[0], re.M)
    assert [int(code) for code, _ in codes] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 69, 124, 130]
    assert dict(codes)["6"] == "definition or input invalid"


def test_the_links_of_the_list_lead_to_headings() -> None:
    text = page()
    headings = {heading.replace("`", "").replace(" ", "-") for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= headings
