"""Rows straight from the pages of an SQLite file, for a file that SQLite itself will not read any further.

A table's rows lie on leaf pages, each of which says by itself where its rows are. So rows survive the loss of the
schema (page 1) and of the inner pages that lead to them. What a page holds is a guess until its columns fit a table:
that is for the caller to see to. The format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAGIC = b"SQLite format 3\x00"
_LEAF = 0x0D  # first byte of a table's leaf page
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_USUAL_SIZE = 4096
_INT_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class Pages:
    """The pages of a file, those of its write-ahead log over them."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self.size = _page_size(self._data)
        self.count = len(self._data) // self.size
        self._newer = dict(_logged(path.with_name(path.name + "-wal"), self.size))
        self.count = max([self.count, *self._newer])

    def page(self, number: int) -> bytes:
        """A page, numbered from 1."""
        start = (number - 1) * self.size
        return self._newer.get(number) or self._data[start : start + self.size]

    def free(self) -> set[int]:
        """Pages that are not in use: their rows were deleted. Empty if the list of them cannot be read."""
        first = self.page(1)
        if not first.startswith(_MAGIC):
            return set()
        trunk, found = struct.unpack(">I", first[32:36])[0], set[int]()
        while 0 < trunk <= self.count and trunk not in found:
            found.add(trunk)
            body = self.page(trunk)
            trunk, leaves = struct.unpack(">II", body[:8])
            leaves = min(leaves, self.size // 4 - 2)
            found.update(struct.unpack(f">{leaves}I", body[8 : 8 + 4 * leaves]))
        return found

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Every row that can be read, of whatever table."""
        free = self.free()
        for number in range(1, self.count + 1):
            body = self.page(number)
            if number not in free and len(body) == self.size and body[0] == _LEAF:
                yield from self._rows_on(body)

    def _rows_on(self, body: bytes) -> Iterator[tuple[Any, ...]]:
        cells = min(struct.unpack(">H", body[3:5])[0], (self.size - 8) // 2)
        for index in range(cells):
            (at,) = struct.unpack(">H", body[8 + 2 * index : 10 + 2 * index])
            try:
                yield _record(self._payload(body, at))
            except (IndexError, ValueError, struct.error):  # not a row, or a damaged one
                continue

    def _payload(self, body: bytes, at: int) -> bytes:
        length, at = _varint(body, at)
        _rowid, at = _varint(body, at)
        most = self.size - 35
        if length <= most:
            return body[at : at + length]
        if length > len(self._data) + self.size * len(self._newer):
            raise ValueError("longer than the file")
        least = (self.size - 12) * 32 // 255 - 23
        local = least + (length - least) % (self.size - 4)
        local = local if local <= most else least
        parts, left = [body[at : at + local]], length - local
        (follows,) = struct.unpack(">I", body[at + local : at + local + 4])
        while left > 0:
            if not 0 < follows <= self.count:
                raise ValueError("its other pages are lost")
            more = self.page(follows)
            parts.append(more[4 : 4 + left])
            left -= self.size - 4
            (follows,) = struct.unpack(">I", more[:4])
        return b"".join(parts)


def _page_size(data: bytes) -> int:
    """As page 1 says, or ours if that is lost."""
    if not data.startswith(_MAGIC):
        return _USUAL_SIZE
    (size,) = struct.unpack(">H", data[16:18])
    size = 65536 if size == 1 else size
    return int(size) if size >= 512 and size & (size - 1) == 0 else _USUAL_SIZE


def _logged(wal: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """The pages of the log's committed transactions, oldest first."""
    try:
        data = wal.read_bytes()
    except OSError:
        return
    if len(data) < 32 or struct.unpack(">I", data[:4])[0] not in _WAL_MAGIC or data[8:12] != struct.pack(">I", size):
        return
    salts, waiting = data[16:24], list[tuple[int, bytes]]()
    for at in range(32, len(data) - size - 23, 24 + size):
        number, committed = struct.unpack(">II", data[at : at + 8])
        if data[at + 8 : at + 16] != salts:  # left over from before the log began anew
            return
        waiting.append((number, data[at + 24 : at + 24 + size]))
        if committed:
            yield from waiting
            waiting = []


def _record(payload: bytes) -> tuple[Any, ...]:
    length, at = _varint(payload, 0)
    kinds = []
    while at < length:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values = []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at > len(payload):
        raise ValueError("cut short")
    return tuple(values)


def _value(payload: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    if kind in _INT_SIZES:
        size = _INT_SIZES[kind]
        return int.from_bytes(payload[at : at + size], "big", signed=True), at + size
    if kind == 7:
        return struct.unpack(">d", payload[at : at + 8])[0], at + 8
    if kind < 12:
        raise ValueError("no such type")
    size = (kind - 12) // 2
    body = payload[at : at + size]
    return (body.decode() if kind % 2 else body), at + size


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(9):
        byte = body[at + index]
        if index == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("no number")  # not reached: the ninth byte ends it
