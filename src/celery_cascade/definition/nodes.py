"""A parsed document: plain values that know where they were written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

Value = None | bool | int | float | str


@dataclass(slots=True)
class Scalar:
    """One value.

    Args:
        offset: where it starts in the text.
        value: as read.
        written: as written, without quotes.
    """

    offset: int
    value: Value
    written: str

    @property
    def size(self) -> int:
        return 16 + len(self.written)

    @property
    def height(self) -> int:
        return 0

    def plain(self) -> Any:
        """The value alone."""
        return self.value


@dataclass(slots=True)
class Sequence:
    """A list; `size` and `height` are those of the tree below when aliases are written out."""

    offset: int
    items: list[Node] = field(default_factory=list)
    size: int = 16
    height: int = 1

    def append(self, item: Node) -> None:
        self.items.append(item)
        self.size += item.size
        self.height = max(self.height, item.height + 1)

    def plain(self) -> list[Any]:
        """The values alone, in new lists and dicts."""
        return [item.plain() for item in self.items]


class Entry(NamedTuple):
    """One key of a mapping: where the key stands, and its value."""

    offset: int
    node: Node


@dataclass(slots=True)
class Mapping:
    """A mapping. Keys are text as written, whatever YAML 1.1 thinks of `on` and `no`."""

    offset: int
    entries: dict[str, Entry] = field(default_factory=dict)
    size: int = 16
    height: int = 1

    def put(self, key: str, offset: int, node: Node) -> None:
        self.entries[key] = Entry(offset, node)
        self.size += 16 + len(key) + node.size
        self.height = max(self.height, node.height + 1)

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return entry.node if entry else None

    def plain(self) -> dict[str, Any]:
        """The values alone, in new lists and dicts."""
        return {key: entry.node.plain() for key, entry in self.entries.items()}


Node = Scalar | Sequence | Mapping
