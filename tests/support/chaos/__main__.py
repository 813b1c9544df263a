"""`scripts/chaos`: the long form, by one command."""

from __future__ import annotations

import argparse
import datetime
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from support import stacks
from support.chaos.counts import Counts
from support.chaos.run import Plan, run
from support.private import Missing

SECONDS_A_KILL = 2.5
OUTAGE = 30.0  # seconds that the database is away in the middle of a run


def main() -> int:
    given = _arguments()
    failed = 0
    for stack in given.stack or stacks.DEFAULT:
        seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
        plan = Plan(
            stack=stack, seed=seed, sessions=given.sessions, kills=given.kills,
            seconds=given.seconds or given.kills * SECONDS_A_KILL, patience=300, outage=OUTAGE,
        )  # fmt: skip
        folder = Path(tempfile.mkdtemp(prefix="cascade-chaos-"))
        counts, violations = run(plan, folder / "project", say)
        print("\n".join(counts.lines()), flush=True)
        for violation in violations:
            print(f"VIOLATION {violation}")
        if violations:
            say(f"the logs are in {folder}; the same choices again: scripts/chaos --stack {stack} --seed {seed}")
            failed = 1
        elif not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
        if given.record:
            record(given.record, counts)
    return failed


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def record(path: Path, counts: Counts) -> None:
    """Put the counts in the place of the stack's last ones."""
    known = json.loads(path.read_text()) if path.exists() else {}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    known[counts.stack] = {"date": today, "commit": _commit(), **counts.as_dict()}
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def _commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Starts sessions on servers of its own, kills and restarts everything at random, and counts.",
        epilog="Exit code 1: something was lost, stuck, wrong, or run again after its checkpoint.",
    )
    parser.add_argument("--stack", action="append", metavar="STACK", help="one of the three, or several times (all)")
    parser.add_argument("--sessions", type=int, default=300, help="how many are started (%(default)s)")
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs of workers and pool children (%(default)s)")
    parser.add_argument("--seconds", type=float, help=f"time for the kills ({SECONDS_A_KILL:g} s a kill)")
    parser.add_argument("--seed", type=int, help="repeats the choices of a run; not its timing")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the counts as JSON, under the stack's name")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a run that went well, too")
    return parser.parse_args()


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background; servers would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(main())
    except Missing as missing:
        sys.exit(f"scripts/chaos: {missing}")
