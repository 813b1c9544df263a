"""What docs/context.md shows works as shown."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from celery_cascade.tasks.driver import drive

PAGE = (Path(__file__).parents[2] / "docs" / "context.md").read_text(encoding="utf-8")


def block(title: str) -> str:
    (found,) = [one for one in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if one.startswith(title)]
    return str(found)


def test_the_page_runs_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """R139, R42: what the page's tasks and callers do, and what it says they get."""
    (tmp_path / "shop.py").write_text(block("# shop.py"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CELERY_CASCADE_HOME", str(tmp_path / "home"))
    names: dict[str, Any] = {}
    try:
        run(names, "# anywhere else")
        drive(importlib.import_module("shop").cascades.runtime, "chat-1")
        for line in block("# afterwards").splitlines()[1:]:
            expression, comment = line.split("#", 1)
            shown, whole = str(eval(expression, names)), comment.strip()
            pattern = re.escape(whole).replace("…", ".*")
            assert re.fullmatch(pattern, shown), (expression, shown)
        capsys.readouterr()
        run(names, "# the history")
        assert capsys.readouterr().out == re.search(r"```\n(1 None .*?)```", PAGE, flags=re.DOTALL).group(1)
        run(names, "# the context as it was")
    finally:
        names["cascades"].runtime.store.database.dispose()
        names["cascades"].app.close()
        sys.modules.pop("shop")


def run(names: dict[str, Any], title: str) -> None:
    exec(compile(block(title), "docs/context.md", "exec"), names)
