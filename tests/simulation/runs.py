"""Playing many histories, in one process or several. Not in `__main__`, which no process of a pool can import."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import partial
from typing import Any

from simulation import model_world, record

CHUNK = {True: 500, False: 10}  #: histories that a process is given at a time, by whether they are the model's


def player(model: bool) -> Any:
    if model:
        return model_world.play
    from simulation import world  # Celery and SQLAlchemy, which the model does without

    return world.play


def chunk(seeds: range, *, model: bool) -> tuple[record.Counts, list[int]]:
    """Play some; their counts, and the seeds that went wrong."""
    play, counts, wrong = player(model), record.Counts(), []
    for seed in seeds:
        history = play(seed)
        counts.add(history)
        if history.problem is not None:
            wrong.append(seed)
    return counts, wrong


def chunks(model: bool, runs: int, first: int, jobs: int) -> Iterator[tuple[record.Counts, list[int]]]:
    parts = [
        range(begin, min(begin + CHUNK[model], first + runs)) for begin in range(first, first + runs, CHUNK[model])
    ]
    work = partial(chunk, model=model)
    if jobs == 1:
        yield from map(work, parts)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(work, parts)
