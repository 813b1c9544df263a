"""The oldest versions that we promise are those that `scripts/test --oldest` installs, and others are not installed."""

from __future__ import annotations

import os
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
FOR_USERS = ("cli", "postgresql", "mysql", "redis")  # the extras; the others are for people who work on this


def constraints() -> dict[str, Version]:
    lines = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.partition("==") for line in lines if line and not line.startswith("#")]
    return {name: Version(number) for name, _, number in pinned}


def lower_bounds() -> dict[str, Version]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in FOR_USERS for line in project["optional-dependencies"][extra]),
    ]
    found = {}
    for requirement in map(Requirement, wanted):
        (bound,) = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
        assert found.setdefault(requirement.name.lower(), bound) == bound, f"two lower bounds of {requirement.name}"
    return found


def test_the_oldest_versions_tested_are_the_lower_bounds():
    """Every requirement has a lower bound, and `scripts/test --oldest` runs on exactly those."""
    assert {name: version.release for name, version in padded(constraints()).items()} == {
        name: version.release for name, version in padded(lower_bounds()).items()
    }


def padded(versions: dict[str, Version]) -> dict[str, Version]:
    """5.5 is 5.5.0."""
    return {name: Version(".".join(map(str, (*v.release, 0, 0)[:3]))) for name, v in sorted(versions.items())}


@pytest.mark.skipif("CASCADE_OLDEST" not in os.environ, reason="scripts/test --oldest runs it")
def test_this_run_is_on_the_oldest_versions():
    assert sys.version_info[:2] == (3, 11)
    assert padded({name: Version(version(name)) for name in constraints()}) == padded(constraints())
