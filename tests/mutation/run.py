"""Tries the mutations: a copy of the source with one break, the tests that should see it, and which one did.

python tests/mutation/run.py [NAME...] [--record FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from mutation.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
_NOTHING_COLLECTED, _RED = 5, 1


class Tried(NamedTuple):
    """What came of one mutation; `by` is the test that saw it, empty if none did."""

    name: str
    by: str
    seconds: float


def main() -> int:
    """The command; exit code 1 if a mutation survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a mutation's name; none = all")
    parser.add_argument("--record", type=Path, help="write what was seen as JSON")
    given = parser.parse_args()
    names = [name.replace(" ", "-") for name in given.names]
    chosen = [m for m in MUTATIONS if not names or any(name in m.key for name in names)]
    if not chosen:
        parser.error("no mutation has such a name; there are:\n" + "\n".join(m.key for m in MUTATIONS))
    done = []
    for number, mutation in enumerate(chosen, 1):
        tried = attempt(mutation)
        done.append(tried)
        seen = f"caught by {tried.by}" if tried.by else "SURVIVED"
        print(f"{number}/{len(chosen)}  {mutation.name}: {seen} ({tried.seconds:.0f} s)", flush=True)
    survived = [tried.name for tried in done if not tried.by]
    print(f"{len(done)} mutations, {len(done) - len(survived)} caught, {len(survived)} survived")
    if given.record:
        given.record.parent.mkdir(parents=True, exist_ok=True)
        given.record.write_text(json.dumps(_record(done), indent=2) + "\n")
    return 1 if survived else 0


def attempt(mutation: Mutation) -> Tried:
    """Break a copy of the source and run the tests on it. Raises RuntimeError: they could not be run."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cascade-mutation-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
        path = source / "celery_cascade" / mutation.file
        path.write_text(mutated(mutation, path.read_text()))
        there = [word for word in mutation.tests if not word.startswith("tests/") or (ROOT / word).exists()]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", "--no-header", *there]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    if done.returncode not in (0, _RED):
        what = "no test was chosen" if done.returncode == _NOTHING_COLLECTED else "pytest failed"
        raise RuntimeError(f"{mutation.name}: {what}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return Tried(mutation.name, _red(done.stdout) if done.returncode else "", time.monotonic() - began)


def mutated(mutation: Mutation, text: str) -> str:
    """The text with its break. Raises ValueError: the code has changed, and the mutation with it."""
    if text.count(mutation.old) != 1:
        raise ValueError(
            f"{mutation.name}: its text occurs {text.count(mutation.old)} times in {mutation.file}, not once"
        )
    return text.replace(mutation.old, mutation.new)


def _red(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return lines[0].split(" ", 1)[1].partition(" - ")[0] if lines else "a test that pytest does not name"


def _record(done: list[Tried]) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "mutations": len(done),
        "survived": [tried.name for tried in done if not tried.by],
        "caught": {tried.name: tried.by for tried in done if tried.by},
    }


if __name__ == "__main__":
    sys.exit(main())
