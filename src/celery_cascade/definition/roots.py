"""Which of several cascade files is to be run: the one that no other refers to (D8)."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def roots_of(references: Mapping[str, Collection[str]]) -> list[str]:
    """The files that no other file of the set refers to, in the order given; one of them = that one is run.

    Several: it is not clear which is meant. None: they refer to each other in a circle.

    Args:
        references: file -> the files that it names as its sub-cascades; those outside the set do not count.
    """
    named = {other for file, others in references.items() for other in others if other != file}
    return [file for file in references if file not in named]
