"""Which keys are secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_IN_KEY = re.compile(r"[\w.-]").match
_ANY_KEY = re.compile(r"[A-Za-z_]")
#: Characters of a key in a text that are looked at on either side of its telling word.
_LONGEST = 60
#: A pattern of so many letters is no part of another word by chance.
_TELLING = 8


class Keys:
    """Which keys are secret.

    Args:
        patterns: words, several of them joined by `_`; or globs. None at all = nothing is secret.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        given = [pattern for pattern in patterns if _spelled(pattern).strip() or set(pattern) & set("*?[")]
        self._globs = [pattern.lower() for pattern in given if set(pattern) & set("*?[")]
        self._words = [_pattern(pattern) for pattern in given if not set(pattern) & set("*?[")]
        self._known: dict[str, bool] = {}
        self._hints = tuple(sorted({max(word.split(), key=len) for word in self._words}))

    def __bool__(self) -> bool:
        return bool(self._globs or self._words)

    def may_be_in(self, text: str) -> bool:
        """Whether a stored text could have such a key: to spare reading those that have none."""
        lowered = text.lower()
        return bool(self._globs) or any(hint in lowered for hint in self._hints)

    def places_in(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the secret keys of a text are, from left to right."""
        end = 0
        for hint in self._told(text):
            if hint.start() < end:
                continue
            begin = hint.start()
            while begin > end and hint.start() - begin < _LONGEST and _IN_KEY(text[begin - 1]):
                begin -= 1
            end = hint.end()
            while end < len(text) and end - hint.end() < _LONGEST and _IN_KEY(text[end]):
                end += 1
            if self.match(text[begin:end]):
                yield begin, end

    def _told(self, text: str) -> Iterator[re.Match[str]]:
        """Where something is that a secret key has in it; most texts have nothing of that, and that is soon seen."""
        if self._globs:
            return _ANY_KEY.finditer(text)
        lowered = text.lower()
        there = [re.escape(hint) for hint in self._hints if hint in lowered]
        if not there:
            return iter(())
        if len(lowered) == len(text):
            return re.compile("|".join(there)).finditer(lowered)
        return re.compile("|".join(there), re.IGNORECASE).finditer(text)  # small letters of some scripts are longer

    def match(self, key: Any) -> bool:
        """Whether what stands under this key is secret."""
        if not isinstance(key, str):
            return False
        found = self._known.get(key)
        if found is None:
            found = self._match(key)
            if len(self._known) < 1000:  # keys are few as a rule; where they are data, they are not kept
                self._known[key] = found
        return found

    def _match(self, key: str) -> bool:
        lowered, spelled = key.lower(), _spelled(key)
        if any(fnmatchcase(lowered, pattern) for pattern in self._globs):
            return True
        return any(word in spelled for word in self._words)


def _spelled(key: str) -> str:
    """` api key ` of `apiKey`, so that a pattern is found as whole words."""
    return f" {' '.join(word.lower() for word in _WORDS.findall(key))} "


def _pattern(pattern: str) -> str:
    """As whole words; a long one is found at the end of a word too, as in `PGPASSWORD`."""
    spelled = _spelled(pattern)
    return spelled.lstrip() if len(spelled.split()[0]) >= _TELLING else spelled
