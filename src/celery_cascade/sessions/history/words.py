"""What made each version, in words: one line a version."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from celery_cascade.persistence.notes import ENGINE, Note
from celery_cascade.persistence.past import Past
from celery_cascade.persistence.rows import NO_ITEM, Row
from celery_cascade.sessions.history.head import Heads, ended_for_good
from celery_cascade.states import SessionStatus, StepStatus
from celery_cascade.words import listed, shown

_KINDS = {
    "retry": "asked to be retried in",
    "requeue": "was queued again in",
    "timeout": "took too long in",
    "crash": "lost its worker in",
    "failure": "failed in",
}
_ASKED = {"suspend": "to be suspended", "cancel": "to be cancelled", "expire": "its time has passed", "fail": "to fail"}
_BEGINNINGS = ("fork", "rerun")
_COMES_TO = {"suspend": Note.SUSPENDED.value, "cancel": Note.CANCELLED.value}


class Teller:
    """Tells what the rows of a session say."""

    def __init__(self, past: Past, heads: Heads) -> None:
        self._past, self._heads = past, heads
        self._rows = {(row["step"], row["item"]): row for row in past.steps}

    def lines(self, latest: int) -> dict[int, list[str]]:
        """Version -> its lines, the most telling first."""
        found: dict[int, list[str]] = defaultdict(list)
        found[1].append(self._began())
        for version, line in [
            *self._ends(), *self._setbacks(), *self._acts(), *self._said(), *self._context(), *self._completed(latest)
        ]:  # fmt: skip
            if version <= latest:
                found[version].append(line)
        for version in range(2, latest + 1):
            if not found[version]:
                found[version] = self._by_status(version)
        return found

    def _began(self) -> str:
        row = self._past.session
        if row["forked_from"] is None:
            waits = self._heads.at(1).status == SessionStatus.SUSPENDED
            return f"queued behind {row['continues']}" if waits else "started"
        who = next((_who(one) + _why(one) for one in self._past.actions if one["action"] in _BEGINNINGS), "")
        if row["trigger"] == "rerun":
            return f"{row['forked_from']} run again{who}"
        at = f" at step {row['forked_step']}" if row["forked_step"] else ""
        return f"forked from {row['forked_from']}{at}{who}"

    def _ends(self) -> Iterator[tuple[int, str]]:
        """Steps that ended well, then what was skipped with them."""
        rows = sorted(self._past.steps, key=lambda row: (row["version"], row["started_at"] is None, row["step"]))
        for row in rows:
            if row["status"] == StepStatus.SUCCEEDED and row["version"] > 1:
                yield row["version"], f"step {name(row)} succeeded ({_took(row)})"
            elif row["status"] == StepStatus.SKIPPED:
                why = f" ({row['reason']})" if row["reason"] else ""
                yield row["version"], f"step {name(row)} skipped{why}"

    def _setbacks(self) -> Iterator[tuple[int, str]]:
        began = self._past.session["created_at"]
        for row in sorted(self._past.attempts, key=lambda row: (row["version"], row["finished_at"], row["step"])):
            if row["version"] > 1 or row["finished_at"] > began:  # a fork begins with attempts of its origin
                yield row["version"], f"step {name(row)} {setback(row, ended_for_good(row, self._rows))}"

    def _acts(self) -> Iterator[tuple[int, str]]:
        asked: Mapping[str, str] = {}
        for row in self._past.actions:
            who, why, word = _who(row), _why(row), row["action"]
            if word in _ASKED:
                asked = {_COMES_TO.get(word, ""): who + why}
                yield row["version"], _ASKED[word] + who + why
            elif word == "say" or word in _BEGINNINGS:  # told already
                continue
            elif word == Note.PARKED:
                yield row["version"], f"to be suspended{why}"
            elif word in (Note.SUSPENDED, Note.CANCELLED):
                yield row["version"], word + asked.get(word, why)
            elif word in ("resume", Note.RESUMED):
                yield row["version"], _resumed(row, who, why)
            elif word == "keep":
                yield row["version"], f"kept{who}{why}"
            elif word == "unkeep":
                yield row["version"], f"no longer kept{who}{why}"
            else:
                yield row["version"], f"{word}{who}{why}"

    def _said(self) -> Iterator[tuple[int, str]]:
        for row in self._past.said:
            yield row["version"], f"{shown(row['role'], quote=False)} said: {_short(row['content'])}"

    def _context(self) -> Iterator[tuple[int, str]]:
        for row in self._past.changes:
            who = f" by {shown(row['actor'], quote=False)}" if row["actor"] else ""
            by = f" by step {row['step']}" if row["step"] else who
            yield row["version"], f"context: {_changes(row['delta'])}{by}"

    def _completed(self, latest: int) -> Iterator[tuple[int, str]]:
        """A completion of which there is no note."""
        states = self._heads.states
        for version, state, before in zip(self._heads.versions[1:], states[1:], states, strict=False):
            if state.status == SessionStatus.COMPLETED != before.status and version == latest:
                yield version, "completed"

    def _by_status(self, version: int) -> list[str]:
        """An older worker's end, of which there is no note either."""
        now, before = self._heads.at(version).status, self._heads.at(version - 1).status
        return [now] if now != before else []


def name(row: Row) -> str:
    """The step, with the number of its item."""
    return str(row["step"]) if row["item"] == NO_ITEM else f"{row['step']}[{row['item']}]"


def setback(row: Row, for_good: bool) -> str:
    """What became of an attempt that did not succeed."""
    error = _error(row["error"])
    said = f": {error}" if error else ""
    if for_good and row["kind"] == "failure":
        return f"failed (attempt {row['attempt']}){said}"
    return f"{_KINDS[row['kind']]} attempt {row['attempt']}{', for good' if for_good else ''}{said}"


def _who(action: Row) -> str:
    return f" by {shown(action['actor'], quote=False)}" if action["actor"] not in (None, ENGINE) else ""


def _why(action: Row) -> str:
    return f": {shown(action['reason'], quote=False)}" if action["reason"] else ""


def _took(row: Row) -> str:
    seconds = (row["finished_at"] - row["started_at"]).total_seconds() if row["started_at"] else 0.0
    return f"attempt {row['attempt']}, {max(0.0, seconds):.1f} s"


def _error(text: str | None) -> str:
    try:
        error = json.loads(text or "{}")
        what = f"{error.get('type', '')}: {error.get('message', '')}".strip(": ")
    except (ValueError, AttributeError):
        return "an error that cannot be read"
    return shown(what.splitlines()[0], quote=False) if what else ""


def _resumed(row: Row, who: str, why: str) -> str:
    try:
        detail = json.loads(row["detail"] or "{}")
        answer = f"step {detail['step']} answered: {detail['answer']}" if "answer" in detail else "resumed"
    except (ValueError, TypeError, KeyError):
        answer = "resumed"
    return answer + who + why


def _short(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shown(" ".join(said.split()), quote=False)


def _changes(text: str) -> str:
    """`total, name set; old removed`: the keys of the context that a change is about."""
    try:
        delta: list[Any] = json.loads(text)
        put = dict.fromkeys(str(path[0]) for what, path, *_ in delta if path and (what != "del" or len(path) > 1))
        gone = dict.fromkeys(str(path[0]) for what, path, *_ in delta if what == "del" and len(path) == 1)
    except (ValueError, TypeError, IndexError):
        return "changed"
    parts = [f"{listed(keys)} {word}" for keys, word in ((put, "set"), (gone, "removed")) if keys]
    return "; ".join(parts) or "replaced"
