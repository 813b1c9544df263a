import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import celery_cascade
from celery_cascade.definition import from_bytes, from_text, read_cascade, read_file
from celery_cascade.errors import DefinitionError

SRC = str(Path(celery_cascade.__file__).parents[1])
BODIES = {
    "comments and blanks at line ends": b"# who  \ncascade: x   \n\nsteps:  # all\n  - {id: a, task: t}\t\n# end\n",
    "key order": b"steps:\n- {task: t, id: a}\ncascade: x\n",
    "anchors": b"cascade: x\nsteps:\n- &one {id: a, task: t, with: &w {k: 1}}\n- {id: b, task: t, with: *w}\n",
    "tabs": b"cascade: x\nsteps: [{id: a,\ttask:\tt}]\t# tab\n",
    "CRLF": b"cascade: x\r\nsteps:\r\n  - id: a\r\n    task: t\r\n",
    "BOM": b"\xef\xbb\xbfcascade: x\nsteps: [{id: a, task: t}]\n",
    "no final newline": b"cascade: x\nsteps: [{id: a, task: t}]",
    "non-ASCII": "cascade: größe-日本-🙂\nsteps: [{id: a, task: t}]\n".encode(),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_the_bytes_of_a_file_come_back_as_they_were_and_are_what_is_read(tmp_path: Path, body: bytes) -> None:
    """R2, R3: character for character, and sha256(in) == sha256(out)."""
    path = tmp_path / "x.yaml"
    path.write_bytes(body)
    source = read_file(path)
    assert source.body == body
    assert source.digest == hashlib.sha256(body).hexdigest()
    path.write_bytes(b"swapped")
    assert read_cascade(source).steps[0].id == "a"


def test_non_ascii_files_read_the_same_under_the_c_locale(tmp_path: Path) -> None:
    """R2: LC_ALL=C changes nothing, neither for the file's content nor for its name."""
    path = tmp_path / "größe.yaml"
    path.write_bytes(BODIES["non-ASCII"])
    program = (
        "import sys, os; from celery_cascade.definition import *; s = read_file(os.fsdecode(sys.argv[1].encode("
        "sys.getfilesystemencoding(), 'surrogateescape'))); sys.stdout.write(s.digest + ascii(read_cascade(s).id))"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=env, capture_output=True, check=True)
    digest = hashlib.sha256(BODIES["non-ASCII"]).hexdigest()
    assert done.stdout.decode() == digest + ascii("größe-日本-🙂")


def test_a_file_is_opened_exactly_once_from_reading_to_parsing(tmp_path: Path) -> None:
    """R3: an audit hook sees one open() of the file."""
    path = tmp_path / "x.yaml"
    path.write_bytes(BODIES["anchors"])
    program = """if True:
        import sys
        from celery_cascade.definition import make_plan, read_cascade, read_file
        seen = []
        sys.addaudithook(lambda event, args: seen.append(args[0]) if event == "open" else None)
        make_plan(read_cascade(read_file(sys.argv[1])))
        print(sum(str(one) == sys.argv[1] for one in seen))
    """
    env = {**os.environ, "PYTHONPATH": SRC}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=env, capture_output=True, check=True)
    assert done.stdout.strip() == b"1"


@given(st.binary(max_size=400))
def test_whatever_bytes_are_given_are_kept_exactly(body: bytes) -> None:
    """R3: no conversion, whether they parse or not."""
    assert from_bytes(body).body == body


def test_the_format_follows_the_extension(tmp_path: Path) -> None:
    """R5: yaml, json and inline are recorded."""
    found = {}
    for name in ("a.yaml", "a.yml", "a.json", "a.JSON", "a", "a.cascade"):
        (tmp_path / name).write_bytes(b"{}")
        found[name] = read_file(tmp_path / name).format
    assert found == {
        "a.yaml": "yaml", "a.yml": "yaml", "a.json": "json", "a.JSON": "json", "a": "yaml", "a.cascade": "yaml",
    }  # fmt: skip
    assert from_text("").format == "inline"


def test_the_path_of_a_file_is_absolute_and_a_link_stays_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R9: the path as it was given; it is kept although the file goes away."""
    (tmp_path / "real.yaml").write_bytes(b"cascade: x")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    monkeypatch.chdir(tmp_path)
    source = read_file("link.yaml")
    (tmp_path / "real.yaml").unlink()
    assert source.path == str(tmp_path / "link.yaml")
    assert from_text("cascade: x").path is None


def test_a_file_over_the_limit_names_file_size_and_limit(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * 3000)
    with pytest.raises(DefinitionError, match=r"big\.yaml: the definition has 3,000 bytes, .* limit of 2,000"):
        read_file(path, max_bytes=2000)
    assert len(read_file(path, max_bytes=3000).body) == 3000


def test_ten_megabytes_of_steps_are_refused_without_being_parsed(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"cascade: x\nsteps:\n" + b"- {id: a, task: t}\n" * 550_000)
    with pytest.raises(DefinitionError, match="more than the limit of 1,048,576"):
        read_file(path)


@pytest.mark.parametrize(("name", "word"), [("gone.yaml", "no such file"), (".", "irectory"), ("a\0b", "null")])
def test_a_path_that_cannot_be_read_says_why(tmp_path: Path, name: str, word: str) -> None:
    with pytest.raises(DefinitionError, match=word):
        read_file(f"{tmp_path}/{name}")


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(DefinitionError, match="character 3 is a lone surrogate"):
        from_text("abc\ud800")
