"""The difference of two texts, unified, in time that grows with their length and not with its square.

Lines that stand once in both texts are anchors (as in a patience diff); only the short gaps between them are looked at
closely. `difflib` alone takes minutes for two definitions of 10,000 steps in which every other line differs.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

_CLOSELY = 100  # lines of a gap that are compared one with another
_NO_NEWLINE = "\\ No newline at end of file"


def unified(a: str, b: str, *, context: int = 3) -> list[str]:
    """The lines of a unified diff without its two headings; empty if the texts are the same.

    Args:
        context: unchanged lines shown around each change.
    """
    if a == b:
        return []
    old, new = _lines(a), _lines(b)
    lines: list[str] = []
    matcher = _Matched(old, new)
    for group in matcher.get_grouped_opcodes(context):
        lines.append(f"@@ -{_span(group[0][1], group[-1][2])} +{_span(group[0][3], group[-1][4])} @@")
        for tag, first_old, last_old, first_new, last_new in group:
            if tag == "equal":
                lines += _marked(" ", old, first_old, last_old)
                continue
            lines += _marked("-", old, first_old, last_old)
            lines += _marked("+", new, first_new, last_new)
    return lines


def _span(first: int, last: int) -> str:
    return f"{first + 1 if last > first else first},{last - first}" if last - first != 1 else str(first + 1)


def _lines(text: str) -> list[str]:
    """The lines with their ends; the last one may have none."""
    *whole, rest = text.split("\n")
    return [*(f"{line}\n" for line in whole), *([rest] if rest else [])]


def _marked(mark: str, lines: Sequence[str], first: int, last: int) -> Iterator[str]:
    for line in lines[first:last]:
        yield mark + line.removesuffix("\n")
        if not line.endswith("\n"):
            yield _NO_NEWLINE


class _Matched(difflib.SequenceMatcher[str]):
    """difflib's groups over matches of our own."""

    def __init__(self, a: Sequence[str], b: Sequence[str]) -> None:
        super().__init__(None, a, b, autojunk=False)
        self._found = [difflib.Match(*one) for one in _joined([*_matches(a, b), (len(a), len(b), 0)])]

    def get_matching_blocks(self) -> list[difflib.Match]:
        return self._found


def _joined(found: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Matches that touch are one, as difflib promises."""
    i, j, count = found[0]
    for next_i, next_j, more in found[1:]:
        if (i + count, j + count) == (next_i, next_j) and more:
            count += more
            continue
        if count:
            yield i, j, count
        i, j, count = next_i, next_j, more
    yield i, j, count


def _matches(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """(where in a, where in b, how many) of equal runs of lines, in order."""
    i = j = 0
    for next_i, next_j in [*_anchors(a, b), (len(a), len(b))]:
        if next_i < i or next_j < j:
            continue  # the run before went beyond this anchor
        back = 0
        while next_i - back > i and next_j - back > j and a[next_i - back - 1] == b[next_j - back - 1]:
            back += 1
        ahead = 0
        while i + ahead < next_i - back and j + ahead < next_j - back and a[i + ahead] == b[j + ahead]:
            ahead += 1
        yield i, j, ahead
        yield from _in_gap(a, b, (i + ahead, next_i - back), (j + ahead, next_j - back))
        yield next_i - back, next_j - back, back
        i, j = next_i, next_j


def _in_gap(
    a: Sequence[str], b: Sequence[str], in_a: tuple[int, int], in_b: tuple[int, int]
) -> Iterator[tuple[int, int, int]]:
    old, new = a[slice(*in_a)], b[slice(*in_b)]
    if not old or not new or max(len(old), len(new)) > _CLOSELY:
        return
    for one in difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        yield in_a[0] + one.a, in_b[0] + one.b, one.size


def _anchors(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Places of lines that stand once in each text, as many as are in the same order in both."""
    in_a, in_b = Counter(a), Counter(b)
    place = {line: number for number, line in enumerate(b) if in_b[line] == 1}
    pairs = [(number, place[line]) for number, line in enumerate(a) if in_a[line] == 1 and line in place]
    ends: list[int] = []  # of the longest rising row of each length, the smallest end
    heads: list[int] = []  # and which pair that is
    before: list[int] = []
    for number, (_, j) in enumerate(pairs):
        length = bisect_left(ends, j)
        before.append(heads[length - 1] if length else -1)
        ends[length : length + 1] = [j]
        heads[length : length + 1] = [number]
    found: list[tuple[int, int]] = []
    at = heads[-1] if heads else -1
    while at >= 0:
        found.append(pairs[at])
        at = before[at]
    return found[::-1]
