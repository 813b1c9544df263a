"""docs/finding.md names every option and every keyword, and its examples work."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import click
import pytest
from celery import Celery

from celery_cascade import Cascades
from celery_cascade.cli.ls import ls
from celery_cascade.config import CascadeConfig

PAGE = (Path(__file__).parents[2] / "docs" / "finding.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_table_has_every_option_and_every_keyword() -> None:
    rows = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `--")]
    told = {re.findall(r"`(--[\w-]+)", row[0])[0]: re.findall(r"`(\w+)`", row[1])[0] for row in rows}
    options = {option.opts[0] for option in ls.params if isinstance(option, click.Option)}
    common = {"--json", "--limit", "--cursor", "-q", "--utc", "--ascii"}  # of pages, and of every verb
    assert set(told) == options - common
    keywords = set(inspect.signature(Cascades.sessions).parameters)
    assert set(told.values()) == keywords - {"self", "limit", "cursor"}


@pytest.fixture
def cascades(tmp_path: Path) -> Cascades:
    app = Celery("proj", broker="memory://", set_as_current=False)
    app.conf.cascade_home = str(tmp_path)
    cascades = Cascades(app)

    @app.task(name="shop.charge", shared=False)
    def charge(order_id: int) -> None:
        raise ValueError(f"no card for {order_id}")

    order: dict[str, Any] = {
        "cascade": "order",
        "inputs": {"order_id": "integer"},
        "steps": [{"id": "charge", "task": "shop.charge", "with": {"order_id": "{{ inputs.order_id }}"}}],
    }
    for number in (7, 70, 8):
        cascades.run(order, {"order_id": number})
    return cascades


def test_the_examples_of_the_page_find_what_they_say(cascades: Cascades, capsys: pytest.CaptureFixture[str]) -> None:
    """R29."""
    names: dict[str, Any] = {"cascades": cascades}
    exec(compile(EXAMPLES[0], "docs/finding.md", "exec"), names)
    assert [session.inputs for session in names["page"]] == [{"order_id": 7}]
    assert capsys.readouterr().out.split()[1] == "failed"
    exec(compile(EXAMPLES[1].replace("limit=100", "limit=2"), "docs/finding.md", "exec"), names)
    assert [session.inputs["order_id"] for session in names["failed"]] == [8, 70, 7]


def test_the_setting_of_the_page_can_be_made() -> None:
    app = Celery("proj", set_as_current=False)
    exec(compile(EXAMPLES[2], "docs/finding.md", "exec"), {"app": app})
    assert CascadeConfig.from_mapping(app.conf).redact == ("password", "token", "iban", "*_pin")
