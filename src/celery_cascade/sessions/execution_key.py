"""Which set of files a run belongs to: the key behind a bare `--resume` (R62)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable


def execution_key(paths: Iterable[str]) -> str:
    """The first 16 hex digits of the sha256 over the sorted real paths; neither order nor edits change it."""
    real = sorted({os.path.realpath(path) for path in paths})
    return hashlib.sha256("|".join(real).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def is_path(value: object) -> bool:
    """Whether the system could have a file of this name."""
    if not isinstance(value, str) or not value or "\x00" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:  # half of a character that stands for no byte
        return False
    return True
