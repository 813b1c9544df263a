"""All SQL is in one place (STYLE 8)."""

from __future__ import annotations

import ast
from pathlib import Path

import celery_cascade

SOURCE = Path(celery_cascade.__file__).parent
#: The only folders that may speak SQL. `embedded` is a broker: it speaks to kombu's tables and knows none of ours.
AT_HOME = ("persistence", "migrations", "embedded")
WORDS = {"select", "text", "insert", "update", "delete", "create_engine", "exec_driver_sql"}


def sqlalchemy_names(tree: ast.AST) -> set[str]:
    """What a module imports from SQLAlchemy."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlalchemy":
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {"sqlalchemy" for alias in node.names if alias.name.split(".")[0] == "sqlalchemy"}
    return found


def test_sql_statements_are_written_in_persistence_only() -> None:
    """STYLE 8: a ten-line test can read the tree and say so."""
    elsewhere = {}
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] in AT_HOME:
            continue
        names = sqlalchemy_names(ast.parse(path.read_text()))
        if names & (WORDS | {"sqlalchemy"}) or "exec_driver_sql" in path.read_text():
            elsewhere[str(path.relative_to(SOURCE))] = sorted(names)
    assert elsewhere == {}


def test_persistence_does_speak_sql() -> None:
    """Or the test above proves nothing."""
    for name in ("claim", "checkpoint", "start"):
        assert "select" in sqlalchemy_names(ast.parse((SOURCE / "persistence" / f"{name}.py").read_text()))
