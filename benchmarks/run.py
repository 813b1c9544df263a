"""Measures celery-cascade on this machine, and bare Celery beside it: `scripts/bench`, or `python benchmarks/run.py`.

Needs Redis on 127.0.0.1:6379 and PostgreSQL on 127.0.0.1:5432 (user postgres); MariaDB on 3306 (root) if it is there.
Other servers: CASCADE_TEST_REDIS, CASCADE_TEST_POSTGRESQL, CASCADE_TEST_MARIADB. A Redis database number, databases and
processes of its own are gone at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from measure import finding, growth, guard, points, pruning, recovery, sends, servers, statements, throughput
from measure.options import Options

MEASUREMENTS = {
    "throughput": throughput.measure,
    "statements": statements.measure,
    "growth": growth.measure,
    "recovery": recovery.measure,
    "guard": guard.measure,
    "points": points.measure,
    "sends": sends.measure,
    "pruning": pruning.measure,
    "finding": finding.measure,
}
PACKAGES = ("celery", "kombu", "SQLAlchemy", "psycopg", "redis", "PyMySQL")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="90 seconds on an idle machine; not for quoting")
    parser.add_argument("--rounds", type=int, help="of each measurement (default 5, quick 2)")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)  # as Ctrl+C: what was begun is taken away
    about = _about()
    print(f"# celery-cascade measured\n\n{_words(about)}\n", flush=True)
    _need("Redis", "PostgreSQL")
    with tempfile.TemporaryDirectory(prefix="cascade-bench-") as work:
        options = Options(Path(work), asked.rounds or (2 if asked.quick else 5), asked.quick)
        found, failed = {}, []
        for name in asked.only or MEASUREMENTS:
            options.say(name)
            try:
                found[name] = MEASUREMENTS[name](options)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                failed.append(name)
                options.say(f"{name} failed: {error}")
            else:
                print(f"{found[name]}\n", flush=True)
        options.say(f"done; failed: {', '.join(failed)}" if failed else "done")
    if asked.json:
        raw = {name: table.raw for name, table in found.items()}
        asked.json.write_text(json.dumps(about | {"measured": raw}, indent=1))
    if failed:
        raise SystemExit(1)


def _stop(*_: Any) -> NoReturn:
    raise SystemExit(143)


def _need(*names: str) -> None:
    for name in names:
        if not servers.is_there(name):
            raise SystemExit(f"{name}: {servers.versions()[name]}")


def _about() -> dict[str, Any]:
    """The machine and every version that matters."""
    return {
        "date": datetime.now().astimezone().date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {_processor()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "servers": servers.versions(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _words(about: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    found = ", ".join(f"{name} {version}" for name, version in about["servers"].items())
    return f"{about['date']}; {about['machine']}; Python {about['python']}; {packages}; {found}."


if __name__ == "__main__":
    main()
