"""What the pages say is what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from celery_cascade.tasks.signals import RECORDED
from support.cluster import environment

ROOT = Path(__file__).parents[2]


def test_the_table_of_signals_is_the_one_in_the_code() -> None:
    """R152: signal -> what is recorded in SQL."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for signal, recorded in RECORDED.items():
        assert f"| `{signal}` | {recorded} |" in page


@pytest.mark.integration
def test_the_successor_of_a_chain_starts_before_task_success_has_ended() -> None:
    """R152: why the checkpoint is not in `task_success`."""
    script = ROOT / "examples" / "why_not_task_success.py"
    done = subprocess.run(
        [sys.executable, str(script)], env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the second task started before the first one's checkpoint" in done.stdout
