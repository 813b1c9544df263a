"""examples/in_the_hand: the whole life of a session, told by the command line and real workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import stores
from support.cluster import environment

STORY = Path(__file__).parents[2] / "examples" / "in_the_hand" / "story.py"
pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_a_session_is_killed_resumed_forked_run_again_replayed_compared_and_talked_to(database: str) -> None:
    """R22, R23, R59, R69, R98, R100, R104, R132: see the script; it checks what it tells."""
    if database == "sqlite":
        told({})
    else:
        with stores.migrated_url(database) as url:
            told({"SHOP_DATABASE_URL": url})


def told(more: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(STORY)],
        env=environment() | more,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
