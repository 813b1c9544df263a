"""Answers on the command line: how `resume` is given one, and how a session that waits for one is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from celery_cascade.cli.words import local, printable, why
from celery_cascade.errors import NotSerializable
from celery_cascade.persistence.doubts import answers
from celery_cascade.sessions.answers import NOTHING, Answer, answer_from
from celery_cascade.states import SuspendReason


def answer_of(done: str | None, again: bool, skip: bool, step: str | None) -> Answer | None:
    """The answer that the options give; None if they give none.

    Raises:
        UsageError: they contradict each other.
        NotSerializable: what stands after --done is not JSON.
    """
    return answer_from(done=NOTHING if done is None else _value(done), again=again, skip=skip, step=step)


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise NotSerializable(
            f"--done {printable(text)[:60]}: this is not JSON: {error}",
            hint="Nothing was changed. Text needs quotes inside the shell's: --done '\"paid\"'; nothing is null",
        ) from error


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")  # Python would take NaN and Infinity


def doubts(session_id: str, waits_for: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Each step that waits for an answer, what happened to it, and the commands that give the answer."""
    for one in waits_for:
        where = f" on {printable(one['worker'])}" if one["worker"] else ""
        yield (
            f"Step {one['step']} ({one['reason']}): attempt {one['attempt']} began {local(one['began_at'])}{where} and "
            f"lost its worker {local(one['lost_at'])}; its crashes so far: {one['crashes']}."
        )
        if one["error"]:
            yield f"  {why(one['error'])}"
        if one["reason"] == SuspendReason.IN_DOUBT:
            yield "  It may have done its work or not. Find out, then say what became of it:"
    yield from answers(session_id, [one["step"] for one in waits_for])
    if waits_for and all(one["reason"] == SuspendReason.POISONED for one in waits_for):
        yield f"All that waits runs again, with a fresh count of crashes: cascade resume {session_id}"
