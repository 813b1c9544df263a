"""`scripts/simulate`: many histories, or one again, or the smallest that goes wrong."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from simulation import record
from simulation.choices import read
from simulation.history import History
from simulation.runs import chunks, player
from simulation.shrink import Play, Shrinker


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--model", action="store_true", help="the pure engine on a model store, not the real one")
    parser.add_argument("--runs", type=int, help="histories to play (500; 10000 with --model)")
    parser.add_argument("--base", type=int, default=base(), help="seed of the first (CASCADE_SIMULATION_SEED, 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="play this one history and print it")
    parser.add_argument("--keep", type=read, help="of its choices only these, as a shrunk history prints them")
    parser.add_argument("--drop", default="", help="of its steps not these")
    parser.add_argument("--no-shrink", action="store_true", help="print a failing history as it is")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the counts to this JSON file")
    return parser.parse_args(arguments)


def base() -> int:
    """Seed of the first history; moved by CASCADE_SIMULATION_SEED."""
    return int(os.environ.get("CASCADE_SIMULATION_SEED", "0"))


def many(asked: argparse.Namespace) -> int:
    runs = asked.runs or (10_000 if asked.model else 500)
    began, counts, wrong = time.monotonic(), record.Counts(), []
    for part, failed in chunks(asked.model, runs, asked.base, asked.jobs):
        counts.merge(part)
        wrong += failed
        if failed:
            print(f"wrong: seeds {failed}", file=sys.stderr)
    seconds = time.monotonic() - began
    name = record.MODEL if asked.model else record.REAL
    print(f"{name}: {counts.histories:,} histories, {counts.events:,} events, {counts.crashes:,} crashes,")
    print(f"  {sum(counts.faults.values()):,} faults in {seconds:.0f} s, seeds from {asked.base}: {len(wrong)} wrong")
    for what, number in sorted((counts.faults + counts.seen).items()):
        print(f"  {number:>12,}  {what}")
    if asked.record is not None:
        record.write(asked.record, name, counts, seconds=seconds, seed=asked.base)
    for seed in wrong[:1]:
        show(asked, seed)
    return 1 if wrong else 0


def show(asked: argparse.Namespace, seed: int) -> History:
    """Print one history; if it goes wrong, the smallest of its kind."""
    play = player(asked.model)
    dropped = [int(number) for number in asked.drop.split(",") if number]
    history: History = play(seed, keep=asked.keep, dropped=dropped, telling=True)
    shown, words = history, ["--model"] if asked.model else []
    command = None
    if history.problem is not None and asked.keep is None and not asked.no_shrink:
        print(f"seed {seed} goes wrong: {history.problem}\nlooking for a smaller one ...", file=sys.stderr)
        again: Play = lambda keep, dropped: play(seed, keep=keep, dropped=dropped, telling=True)  # noqa: E731
        shrinker = Shrinker(again, history, tries=2000 if asked.model else 300)
        shown = shrinker.run()
        command = shrinker.command(*words)
    print(shown.written())
    print(
        f"\nseed {seed}: {shown.problem or 'as promised'}; {shown.events} events, faults: {dict(Counter(shown.faults))}"
    )
    if command is not None:
        print(f"again: {command}")
    return history


def main(arguments: list[str] | None = None) -> int:
    asked = options(arguments)
    if asked.seed is not None:
        return 0 if show(asked, asked.seed).problem is None else 1
    return many(asked)


if __name__ == "__main__":
    sys.exit(main())
