"""Which set of files a run belongs to: the key behind a bare `--resume` (R62)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable


def execution_key(paths: Iterable[str]) -> str:
    """The first 16 hex digits of the sha256 over the sorted real paths: order and edits do not change it."""
    real = sorted(os.path.realpath(path) for path in paths)
    return hashlib.sha256("|".join(real).encode("utf-8", "surrogateescape")).hexdigest()[:16]
