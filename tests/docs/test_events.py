"""docs/events.md says what is sent, and its example works."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from celery import Celery

from celery_cascade import Cascades, events

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


def test_the_table_names_every_signal_with_its_arguments() -> None:
    """R161."""
    rows = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    told = {re.findall(r"`(\w+)`", row[0])[0]: set(re.findall(r"`(\w+)`", row[1])) for row in rows}
    assert told == {signal.name: set(signal.providing_args) for signal in events.ALL}


def test_the_alert_of_the_page_alerts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """R161: pasted as it stands beside an app."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    app = Celery("proj", broker="memory://", set_as_current=False)
    app.conf.cascade_home = str(tmp_path)
    app.conf.cascade_max_crashes = 1
    cascades = Cascades(app)

    @app.task(name="shop.charge", shared=False)
    def charge() -> None:
        raise ValueError("the card was refused")

    before = {signal: list(signal.receivers or ()) for signal in events.ALL}
    names: dict[str, object] = {}
    exec(compile(example, "docs/events.md", "exec"), names)
    try:
        with caplog.at_level(logging.ERROR, "pager"):
            failed = cascades.run({"cascade": "order", "steps": [{"id": "charge", "task": "shop.charge"}]})
            cascades.start({"cascade": "order", "steps": [{"id": "charge", "task": "shop.charge"}]}).suspend()
    finally:
        for signal, receivers in before.items():
            signal.receivers = receivers
            signal.sender_receivers_cache.clear()
    pages = [record.getMessage() for record in caplog.records if record.name == "pager"]
    assert pages == [f"session {failed.id} failed at step charge: the card was refused"]
