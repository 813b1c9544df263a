"""The example with types runs as it says; scripts/lint checks it with `mypy --strict`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SAYS = """\
shipped: {'shipped with': 'receipt of charge:0'}
refused: session order-8 failed: step 'charge': ValueError: order 8: 0 cannot be charged
alerts: ['order-8: ValueError']
left: cancelled
by handle: ['order-8']
in SQL: {'order-7': 'completed', 'order-8': 'failed', 'order-9': 'cancelled'}
"""


def test_the_typed_example_runs(tmp_path: Path) -> None:
    """R13 and the public face of DESIGN.md section 7, in one program."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "examples" / "typed_use.py")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == SAYS


def test_lint_checks_its_types() -> None:
    assert "--strict" in (ROOT / "scripts" / "lint").read_text(encoding="utf-8")
