"""The difference of two JSON values, path by path."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

#: What stands on a side where there is nothing.
MISSING: Any = object()
_WORD = re.compile(r"[A-Za-z_][\w-]*")


def changes(path: str, a: Any, b: Any) -> Iterator[dict[str, Any]]:
    """Each place where the values differ: {"path", "a", "b"}; the side that has nothing there is left out.

    Lists are compared place by place. 1, 1.0 and true are three different values, as they are in JSON.
    """
    waiting = [(path, a, b)]  # no recursion: how deep values go is their maker's affair
    while waiting:
        path, a, b = waiting.pop()
        if isinstance(a, dict) and isinstance(b, dict):
            keys = [*a, *(key for key in b if key not in a)]
            waiting += [(f"{path}{_key(key)}", a.get(key, MISSING), b.get(key, MISSING)) for key in reversed(keys)]
        elif isinstance(a, list) and isinstance(b, list):
            waiting += [(f"{path}[{at}]", _item(a, at), _item(b, at)) for at in reversed(range(max(len(a), len(b))))]
        elif not _same(a, b):
            sides = {"a": a, "b": b}
            yield {"path": path, **{name: value for name, value in sides.items() if value is not MISSING}}


def _key(key: str) -> str:
    return f".{key}" if _WORD.fullmatch(key) else f"[{json.dumps(key, ensure_ascii=False)}]"


def _item(values: list[Any], at: int) -> Any:
    return values[at] if at < len(values) else MISSING


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    return a is b or bool(a == b) or (a != a and b != b)  # NaN is no other than NaN
