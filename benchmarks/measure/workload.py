"""The work that is measured: a chain of no-op steps that hand about 200 bytes of JSON on to each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAD = "x" * 150


def payload(number: int) -> dict[str, Any]:
    """What the first step is given; about 200 bytes of JSON."""
    return {"n": 0, "number": number, "note": "a no-op step", "pad": PAD}


def body(given: dict[str, Any]) -> dict[str, Any]:
    """What every step does."""
    return given | {"n": given["n"] + 1}


def cascade_file(folder: Path, steps: int) -> Path:
    """A cascade of so many steps, each of which takes the output of the one before."""
    path = folder / f"chain_{steps}.yaml"
    lines = [f"cascade: chain_{steps}", "inputs: {given: object}", "steps:"]
    before = "inputs.given"
    for number in range(1, steps + 1):
        lines.append(f'  - {{id: step_{number}, task: bench.step, with: ["{{{{ {before} }}}}"]}}')
        before = f"outputs.step_{number}"
    lines.append(f'output: "{{{{ {before} }}}}"')
    path.write_text("\n".join(lines) + "\n")
    return path


def hold_file(folder: Path) -> Path:
    """A step that runs until its worker is killed, and one after it."""
    path = folder / "hold.json"
    steps = [
        {"id": "hold", "task": "bench.hold", "with": ["{{ inputs.label }}"]},
        {"id": "after", "task": "bench.step", "with": [payload(0)]},
    ]
    path.write_text(json.dumps({"cascade": "hold", "inputs": {"label": "string"}, "steps": steps}))
    return path
