"""`--resume [SESSION_ID]`: what is its value and what is a file, wherever it stands."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from celery_cascade.cli.resume_option import Resume, take_resume
from celery_cascade.cli.run import run

LAST, ID, BOUND = Resume(), Resume("3f2a91"), Resume("3f2a91", bound=True)

#: What is typed after `run` -> the files, what is to be resumed, the inputs.
LINES: list[tuple[str, tuple[str, ...], Resume | None, tuple[str, ...]]] = [
    # last on the line
    ("a.yaml --resume", ("a.yaml",), LAST, ()),
    ("a.yaml -i x=1 --resume", ("a.yaml",), LAST, ("x=1",)),
    ("a.yaml --resume 3f2a91", ("a.yaml",), ID, ()),
    ("a.yaml b.json --resume 3f2a91", ("a.yaml", "b.json"), ID, ()),
    # before another option
    ("a.yaml --resume -i x=1", ("a.yaml",), LAST, ("x=1",)),
    ("a.yaml --resume 3f2a91 -i x=1", ("a.yaml",), ID, ("x=1",)),
    ("--resume -i x=1 a.yaml", ("a.yaml",), LAST, ("x=1",)),
    ("--resume 3f2a91 -i x=1 a.yaml", ("a.yaml",), ID, ("x=1",)),
    ("a.yaml --resume --local", ("a.yaml",), LAST, ()),
    # before the file
    ("--resume a.yaml", ("a.yaml",), LAST, ()),
    ("--resume a.yml", ("a.yml",), LAST, ()),
    ("--resume b.JSON", ("b.JSON",), LAST, ()),
    ("--resume there", ("there",), LAST, ()),
    ("--resume 3f2a91 a.yaml", ("a.yaml",), ID, ()),
    ("--resume a.yaml b.yaml", ("a.yaml", "b.yaml"), LAST, ()),
    ("a.yaml --resume b.yaml", ("a.yaml", "b.yaml"), LAST, ()),
    # bound by a =
    ("--resume=3f2a91 a.yaml", ("a.yaml",), BOUND, ()),
    ("a.yaml --resume=3f2a91", ("a.yaml",), BOUND, ()),
    ("a.yaml --resume=my.yaml", ("a.yaml",), Resume("my.yaml", bound=True), ()),
    ("--resume=my.yaml", (), Resume("my.yaml", bound=True), ()),
    ("a.yaml --resume=-x", ("a.yaml",), Resume("-x", bound=True), ()),
    ("a.yaml --resume=", ("a.yaml",), Resume("", bound=True), ()),
    # a word of it that means something else
    ("a.yaml --resume @last", ("a.yaml",), Resume("@last"), ()),
    ("a.yaml -i --resume", ("a.yaml",), None, ("--resume",)),
    ("a.yaml --input --resume --resume", ("a.yaml",), LAST, ("--resume",)),
    ("a.yaml -ix=1 --resume", ("a.yaml",), LAST, ("x=1",)),
    ("a.yaml -i=x=1 --resume 3f2a91", ("a.yaml",), ID, ("=x=1",)),
    ("--resume -- --resume", ("--resume",), LAST, ()),
    ("-- --resume 3f2a91", ("--resume", "3f2a91"), None, ()),
    ("a.yaml --resume --resume 3f2a91", ("a.yaml",), ID, ()),
    ("a.yaml", ("a.yaml",), None, ()),
    # without a file: `run` itself tells what that means
    ("--resume 3f2a91", (), ID, ()),
    ("--resume", (), LAST, ()),
]


@pytest.mark.parametrize(("line", "files", "resume", "pairs"), LINES, ids=[line for line, *_ in LINES])
def test_the_value_is_optional_wherever_the_option_stands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    files: tuple[str, ...],
    resume: Resume | None,
    pairs: tuple[str, ...],
) -> None:
    """R61, D8: click itself would take the file for the value."""
    (tmp_path / "there").touch()
    monkeypatch.chdir(tmp_path)
    found = run.make_context("run", line.split()).params
    assert (found["files"], found["resume"], found["pairs"]) == (files, resume, pairs)


def test_an_empty_word_is_an_id_that_there_is_not_and_never_the_last_session() -> None:
    """R75: `--resume "$id"` with nothing in the variable must not go on with something."""
    assert take_resume(["a.yaml", "--resume", ""], taking=(), is_file=lambda _: False) == (["a.yaml"], Resume(""))


def test_the_help_shows_that_the_value_is_optional() -> None:
    """R61."""
    with click.Context(run, info_name="run") as ctx:
        text = run.get_help(ctx)
    assert "--resume [SESSION_ID]" in text
    assert "run [OPTIONS] FILE..." in text
