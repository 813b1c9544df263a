"""Who may import whom, and where SQL may stand."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "celery_cascade"


BY_NAME = {"import_module", "__import__", "importorskip"}


def modules(*folders: str) -> list[Path]:
    """The sources below these folders or modules of the package; all of them when none is named."""
    tops = [PACKAGE / folder for folder in folders] or [PACKAGE]
    return sorted(path for top in tops for path in ([top] if top.is_file() else top.rglob("*.py")))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
            # An optional package is often imported so.
            yield from ((node.lineno, str(arg.value)) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def test_imports_run_downwards_only():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("layer", ["engine", "definition", "cli", "web"])
def test_layer_knows_no_sqlalchemy(layer):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules(layer)
        for line, name in imports(path)
        if name.split(".")[0] in {"sqlalchemy", "alembic"}
    ]
    assert found == []


@pytest.mark.parametrize("layer", ["engine", "definition"])
def test_pure_layer_knows_no_celery(layer):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules(layer)
        for line, name in imports(path)
        if name.split(".")[0] in {"celery", "kombu"}
    ]
    assert found == []


def test_statements_are_made_in_persistence_only():
    """`select(...)` and its kin, by whatever name the module calls them; revisions may carry data over."""
    verbs = {"select", "insert", "update", "delete", "text"}
    found = []
    for path in modules():
        if path.relative_to(PACKAGE).parts[0] in {"persistence", "migrations"}:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        from_sqlalchemy: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                from_sqlalchemy |= {
                    a.asname or a.name.split(".")[0] for a in node.names if a.name.startswith("sqlalchemy")
                }
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlalchemy":
                from_sqlalchemy |= {a.asname or a.name for a in node.names}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            is_ours = called.split(".")[0] in from_sqlalchemy and called.split(".")[-1] in verbs
            if called == "select" or is_ours:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {called}(")
    assert found == []


def declared(*extras: str) -> set[str]:
    """The distributions that pyproject names, in the core and in these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(line).name) for line in lines} - {"celery-cascade"}


def imported(files: list[Path]) -> set[str]:
    """The distributions that provide what these files import."""
    providers = packages_distributions()
    tops = {name.split(".")[0] for path in files for _, name in imports(path)}
    return {canonicalize_name(found) for top in tops for found in providers.get(top, [])}


@pytest.mark.parametrize("name", sorted(declared()))
def test_declared_package_is_imported_by_us(name):
    """R155: what is declared is used; nothing is declared for another package's sake."""
    assert name in imported(modules())


@pytest.mark.parametrize("extra", ["cli"])
def test_package_of_an_extra_is_imported_by_us(extra):
    """R155. The drivers are left out: SQLAlchemy and kombu import them, by the URL that a user sets."""
    assert declared(extra) - declared() - imported(modules()) == set()


# Run by name: `python -m build`, which in turn runs hatchling; pytest's `-n` and its `timeout` in pyproject.toml.
RUN_NOT_IMPORTED = {"build", "hatchling", "import-linter", "pytest-timeout", "pytest-xdist"}


@pytest.mark.parametrize("name", sorted(declared("test") - declared() - RUN_NOT_IMPORTED))
def test_test_package_is_imported_by_us(name):
    """R155: pytest and pytest-celery among them."""
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert name in imported([*tests, *modules("testing")])


def test_what_we_import_is_declared():
    """R155, the other way round: nothing is there by the luck of another package's dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = declared(*project["optional-dependencies"]) | {"celery-cascade"}
    # Celery's own parts, whose versions Celery fixes.
    allowed |= {"billiard", "vine"}
    assert imported(modules()) - allowed == set()


def test_command_is_reached_both_ways():
    """`cascade …` and `celery -A proj cascade …` are one group."""
    found = {(entry.group, entry.name): entry.value for entry in distribution("celery-cascade").entry_points}
    assert found == {
        ("console_scripts", "cascade"): "celery_cascade.cli:main",
        ("celery.commands", "cascade"): "celery_cascade.cli:cascade",
    }
