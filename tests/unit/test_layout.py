"""What a checkout shows, and what a user gets: the links of the root, the wheel, the sdist."""

from __future__ import annotations

import stat
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "celery_cascade"
LINKS = ["tasks", "persistence", "migrations", "beat_schedule.py"]
REMEDY = "git config core.symlinks true && git checkout -- " + " ".join(LINKS)


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def skip_where_there_are_no_links(name: str) -> None:
    path = ROOT / name
    if path.is_symlink():
        return
    if path.is_file() and path.read_text(encoding="utf-8").strip() == f"src/celery_cascade/{name}":
        pytest.skip(f"git has checked the link out as a plain file; to have it as a link: {REMEDY}")
    if not path.exists() and not (ROOT / ".git").exists():
        pytest.skip("a source distribution, which holds no links: clone the repository to have them")


@pytest.mark.parametrize("name", LINKS)
def test_root_name_is_the_same_file_as_its_twin_in_the_package(name):
    """R156: a link, so that there is one copy; git writes a plain file where it may not make links."""
    skip_where_there_are_no_links(name)
    link = ROOT / name
    assert link.is_symlink(), f"make it a link: ln -s src/celery_cascade/{name} {name}"
    assert not link.readlink().is_absolute()
    assert link.samefile(PACKAGE / name)


@pytest.mark.parametrize("name", [*LINKS, "tests", "pyproject.toml", "README.md"])
def test_root_shows_the_names_of_the_design(name):
    """R156: a reader finds each of them at the top level."""
    if name in LINKS:
        skip_where_there_are_no_links(name)
    assert (ROOT / name).exists()


def test_any_warning_fails_a_test_but_for_the_named_ones():
    settings = pyproject()["tool"]["pytest"]["ini_options"]
    first, *exceptions = settings["filterwarnings"]
    assert first == "error"
    # Each exception names a message, or the category of one library: none switches a whole kind off.
    assert all(line.startswith("ignore:") and line.split(":")[1] for line in exceptions)
    assert settings["xfail_strict"] is True


def test_any_warning_fails_a_test_in_this_very_run(pytestconfig):
    assert "error" in pytestconfig.getini("filterwarnings")


def test_alembic_reads_its_settings_from_pyproject():
    """R156: `alembic upgrade head` in the checkout finds the package's migrations."""
    from alembic.config import Config

    config = Config(toml_file=ROOT / "pyproject.toml")
    assert Path(config.get_alembic_option("script_location")) == PACKAGE / "migrations"


def build(kind: str, folder: Path) -> Path:
    """Without isolation: the test environment has the build backend, and needs no network."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (artefact,) = folder.iterdir()
    return artefact


MUST_BE = [
    "celery_cascade/py.typed",
    "celery_cascade/migrations/script.py.mako",
    "celery_cascade/migrations/versions/0001_initial.py",
    "celery_cascade/demo/project/order.yaml",
    "celery_cascade/demo/project/shop.py",
]
ROOT_FILES = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore", "PKG-INFO"}


def sources(*folders: str) -> set[str]:
    """Every file of these folders that git would take; what a run leaves behind is not among them."""
    left = {"__pycache__", ".hypothesis", ".cascade", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not left & set(path.relative_to(ROOT).parts)
    }


@pytest.mark.slow
def test_wheel_holds_one_package_and_all_that_it_needs(tmp_path):
    """R156: `tasks` and `persistence` of the root are never installed under those names; nor is a test."""
    with zipfile.ZipFile(build("wheel", tmp_path)) as wheel:
        names = set(wheel.namelist())
        (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        entry_points = wheel.read(f"{info}/entry_points.txt").decode()
        links = [entry.filename for entry in wheel.infolist() if stat.S_ISLNK(entry.external_attr >> 16)]
    about = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert names == {name.removeprefix("src/") for name in sources("src")} | about
    assert set(MUST_BE) <= names
    assert links == []
    assert "cascade = celery_cascade.cli:main" in entry_points
    assert "cascade = celery_cascade.cli:cascade" in entry_points


@pytest.mark.slow
def test_sdist_holds_sources_tests_and_docs(tmp_path):
    """And no link: one that leads out of its folder would be a copy at best."""
    with tarfile.open(build("sdist", tmp_path)) as sdist:
        members = sdist.getmembers()
    names = {member.name.partition("/")[2] for member in members if member.isfile()}
    assert names == sources("src", "tests", "docs", "examples") | ROOT_FILES
    assert {f"src/{name}" for name in MUST_BE} <= names
    assert "tests/oldest.txt" in names
    assert [member.name for member in members if not (member.isfile() or member.isdir())] == []
