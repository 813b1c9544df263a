"""The command: every single crash and as many pairs as are asked for, on as many combinations. See scripts/crashes."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crash import grounds
from crash.checks import Violation
from crash.grounds import DATABASES, POOLS, TITLES
from crash.plans import AT_ONCE, Plan, Tally, Trial, command
from crash.runs import Combination
from crash.scenarios import IN_WORKERS, OPERATIONS, SCENARIOS, WORK, Scenario

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Exit code 1 if a promise was broken."""
    given = _arguments()
    tallies: dict[str, Tally] = {}
    broken = 0
    for database in given.database or DATABASES:
        with grounds.opened(database, AT_ONCE) as opened:
            for pool in given.pool or POOLS:
                began = time.monotonic()
                on = Combination(database, pool, acks_late=not given.early_acks)
                total = tallies.setdefault(f"{TITLES[database]}, {pool}", Tally())
                for scenario in _scenarios(given, pool):
                    _add(total, _tried(Trial(opened, on, scenario), on, scenario, given))
                total.seconds = time.monotonic() - began
                broken += len(total.violations)
                print(f"{TITLES[database]}, {pool}: {_words(total)}", flush=True)
    if given.record:
        _record(given.record, tallies, given.seed)
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/crashes", description=__doc__)
    parser.add_argument("--pairs", default="0", help="how many pairs of crashes besides the singles, or `all`")
    parser.add_argument("--database", action="append", choices=DATABASES, help="only on this one; may be repeated")
    parser.add_argument("--pool", action="append", choices=POOLS, help="only on this one; may be repeated")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only this one; may be repeated")
    parser.add_argument("--early-acks", action="store_true", help="messages are acknowledged before their task runs")
    parser.add_argument("--at", action="append", metavar="STAGE/PLACE", help="one run, with its crashes in their order")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the pairs")
    parser.add_argument("--record", type=Path, metavar="FILE", help="replace the entries of what was run in this file")
    given = parser.parse_args()
    if given.pairs != "all" and not given.pairs.isdecimal():
        parser.error("--pairs is a number or `all`")
    print(f"seed {given.seed}", flush=True)
    return given


def _scenarios(given: argparse.Namespace, pool: str) -> Iterator[Scenario]:
    """Acts without a worker are tried once a database: beside the threads pool, which leaves them their orphans."""
    for scenario in (*IN_WORKERS, *OPERATIONS):
        wanted = not given.scenario or scenario.name in given.scenario
        if wanted and (scenario in IN_WORKERS or pool == "threads"):
            yield scenario


def _tried(trial: Trial, on: Combination, scenario: Scenario, given: argparse.Namespace) -> Tally:
    if given.at:
        _run(trial, on, scenario, [Plan.parse(given.at)])
        return trial.tally
    _run(trial, on, scenario, [Plan.single(stage, place) for stage, place in trial.singles()])
    if given.pairs == "all":
        _run(trial, on, scenario, trial.all_pairs())
    elif scenario is WORK and int(given.pairs):
        _run(trial, on, scenario, trial.sampled_pairs(random.Random(given.seed), int(given.pairs)))
    return trial.tally


def _run(trial: Trial, on: Combination, scenario: Scenario, plans: list[Plan]) -> None:
    began = time.monotonic()
    for number, (plan, came) in enumerate(trial.run(plans), 1):
        if isinstance(came, Violation):
            print(f"VIOLATION at {plan}: {came}\n  again: {command(on, scenario, plan)}", flush=True)
        elif came.crashed < came.asked and len(plans) == 1:
            print(f"not reached: {plan}", flush=True)
        if number % 50 == 0 or number == len(plans):
            took = time.monotonic() - began
            print(f"  {on.database} {on.pool} {scenario.name}: {number}/{len(plans)} runs, {took:.0f} s", flush=True)


def _add(total: Tally, more: Tally) -> None:
    total.points += more.points
    total.singles += more.singles
    total.pairs += more.pairs
    total.not_reached += more.not_reached
    total.violations += more.violations


def _words(tally: Tally) -> str:
    return (
        f"{tally.points} points, {tally.singles} singles, {tally.pairs} pairs, {tally.not_reached} not reached, "
        f"{len(tally.violations)} violations, {tally.seconds:.0f} s"
    )


def _record(path: Path, tallies: dict[str, Tally], seed: int) -> None:
    """The entries of what was run; those of other combinations stay."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    for name, tally in tallies.items():
        found[name] = {
            "points": tally.points,
            "singles": tally.singles,
            "pairs": tally.pairs,
            "not_reached": tally.not_reached,
            "lost": tally.count("lost"),
            "stuck": tally.count("stuck"),
            "repeated": tally.count("repeated"),
            "wrong": tally.count("wrong"),
            "seconds": round(tally.seconds),
            "seed": seed,
            "date": datetime.now(UTC).date().isoformat(),
            "commit": commit,
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
