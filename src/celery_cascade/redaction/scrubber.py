"""Known secrets, taken out of whatever they stand in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from celery_cascade.redaction.text import HIDDEN

#: A secret of so many characters is looked for inside of words too.
_LONG = 8
#: A moment or a state, as views show them; and the name of a field of a view.
_OURS = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)?|active|suspended|completed|failed|cancelled|expired|pending|queued|running"
    r"|waiting|succeeded|skipped"
)
#: Messages show that much of a long text.
_CUT = 59
#: Of more forms than these only those are compiled that are there at all: thousands of alternatives are slow.
_AT_ONCE = 50
_NAME = re.compile(r"[a-z_]{1,30}")


def scrub(text: str, secrets: Iterable[str]) -> str:
    """A text without these secrets, wherever they stand; see `Scrubber`."""
    return Scrubber(secrets).text(text)


class Scrubber:
    """Takes secrets out of whatever they stand in again, also as they are written inside quotes.

    A short one is taken out where it stands as a word: of `1234` a longer number keeps its digits.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = frozenset(secrets)
        written = {form for secret in self._secrets for form in _written(secret)}
        self._look_for(sorted(written, key=len, reverse=True))

    def _look_for(self, forms: list[str]) -> None:
        self._forms = forms
        self._any = _any_of(forms) if len(forms) <= _AT_ONCE else None

    @property
    def secrets(self) -> frozenset[str]:
        """What it takes out."""
        return self._secrets

    def text(self, text: str) -> str:
        """The text without them."""
        found = self._any or _any_of([form for form in self._forms if form in text])
        return text if found is None else found.sub(HIDDEN, text)

    def within(self, text: str) -> Scrubber:
        """One that does as much for this text and for every part of it; of thousands of secrets only a few are left."""
        if len(self._forms) <= _AT_ONCE:
            return self
        found = Scrubber(())
        found._secrets = self._secrets
        found._look_for([form for form in self._forms if form in text])
        return found

    def data(self, value: Any) -> Any:
        """Data without them in any of its texts. States and moments stay: they are ours, and programs read them."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return value if _OURS.fullmatch(value) else self.text(value)
        if isinstance(value, Mapping):
            return {self._key(key): self.data(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.data(part) for part in value]
        return HIDDEN if _is_number(value) and str(value) in self._secrets else value

    def _key(self, key: Any) -> Any:
        return self.text(key) if isinstance(key, str) and not _NAME.fullmatch(key) else key


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _written(secret: str) -> set[str]:
    inside = (repr(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False))
    cut = {secret[:_CUT]} if len(secret) > _CUT else set()
    return {secret, *cut, *(text[1:-1] for text in inside)}


def _any_of(forms: list[str]) -> re.Pattern[str] | None:
    """Whichever of them is there, the longest first."""
    return re.compile("|".join(map(_form, forms))) if forms else None


def _form(text: str) -> str:
    escaped = re.escape(text)
    return rf"(?<!\w){escaped}(?!\w)" if len(text) < _LONG else escaped
