"""Secrets in words for people, a line of a log say: what is given to a secret key there, and passwords of URLs."""

from __future__ import annotations

import re

from celery_cascade.redaction.keys import Keys

HIDDEN = "[redacted]"

_LOGIN = re.compile(r"(?<=://)([^\s/:@'\"]{0,200}):([^\s/@'\"]{1,200})@")
#: What stands between a key and its value: `'password': `, `\"token\":`, `password=`, `secret => `.
_IS = re.compile(r"""(?:\\?["'])?\s{0,9}(?:=>|[:=])\s{0,9}""")
_ENDS = {
    '\\"': re.compile(r'(?:[^\\]|\\\\.|\\[^"\\])*?(?:\\"|$)', re.DOTALL),
    '"': re.compile(r'(?:[^"\\]|\\.)*(?:"|\\?$)', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]|\\.)*(?:'|\\?$)", re.DOTALL),
}
_BRACKET = re.compile(r"[\[\](){}]")
_WORD = re.compile(r"""(?:(?:Bearer|Basic|Token|Digest)\s+)?[^\s,;&"'\[\](){}]+""", re.IGNORECASE)
#: What is no secret: the last three stand in words of database drivers and in URLs that are shown.
_NOTHING = ("None", "null", "True", "true", "False", "false", "YES", "NO", "***")


def redacted_words(text: str, keys: Keys) -> str:
    """The text without them; where it is cut off within one, to its end."""
    parts, place = [], 0
    for begin, end in keys.places_in(text) if keys else ():
        given = _IS.match(text, end) if begin >= place else None
        if given is None:
            continue
        after = _end_of_value(text, given.end())
        if after > given.end() and text[given.end() : after] not in (*_NOTHING, HIDDEN):
            parts += [text[place : given.end()], HIDDEN]
            place = after
    return without_logins("".join(parts) + text[place:])


def without_logins(text: str) -> str:
    """A text without the passwords of URLs."""
    return _LOGIN.sub(_without_login, text) if "://" in text else text


def _without_login(found: re.Match[str]) -> str:
    return found[0] if found[2] in _NOTHING else f"{found[1]}:{HIDDEN}@"


def _end_of_value(text: str, begin: int) -> int:
    start = begin + (1 if text[begin : begin + 2] in ("b'", 'b"') else 0)
    for quote, end in _ENDS.items():
        if text.startswith(quote, start):
            found = end.match(text, start + len(quote))
            return len(text) if found is None else found.end()
    if text[begin : begin + 1] in ("[", "(", "{"):
        return _end_of_bracket(text, begin)
    word = _WORD.match(text, begin)
    return begin if word is None else word.end()


def _end_of_bracket(text: str, begin: int) -> int:
    depth = 0
    for bracket in _BRACKET.finditer(text, begin):
        depth += 1 if bracket[0] in "[({" else -1
        if depth == 0:
            return bracket.end()
    return len(text)
