from typing import Any

import pytest
import yaml

from celery_cascade.definition import from_bytes, from_text, read_with_warnings, yaml_document
from celery_cascade.definition.document import parse
from celery_cascade.errors import DefinitionError


def load(text: str) -> Any:
    return parse(from_text(text)).root.plain()


def refusal(text: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        load(text)
    return str(caught.value)


@pytest.fixture(params=["libyaml", "pure"])
def both_parsers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """libyaml is not everywhere; marks and refusals are the same without it."""
    if request.param == "pure":
        monkeypatch.setattr(yaml_document, "_Loader", yaml.SafeLoader)


def test_keys_are_text_as_written_whatever_yaml_1_1_thinks_of_them() -> None:
    """R147: `on`, `no`, `1`, `~` as keys stay what is written."""
    assert load("on: 1\nno: 2\n1: 3\n1.5: 4\n~: 5\n22:30: 6\n2001-01-01: 7\n'q': 8\n") == {
        "on": 1, "no": 2, "1": 3, "1.5": 4, "~": 5, "22:30": 6, "2001-01-01": 7, "q": 8,
    }  # fmt: skip


@pytest.mark.usefixtures("both_parsers")
def test_a_key_that_appears_twice_is_refused_with_both_places() -> None:
    """R147: PyYAML alone would keep the last silently."""
    assert refusal("a: 1\nb:\n  k: 1\n  é: 2\n  k: 3\n").startswith(
        "<inline>:5:3: the key 'k' appears twice, first in line 3\n  k: 3\n  ^"
    )
    assert "appears twice" in refusal("{1: a, '1': b}")


@pytest.mark.usefixtures("both_parsers")
def test_places_count_characters_and_not_bytes_also_after_a_bom_and_crlf() -> None:
    assert refusal("\ufeffgröße: [日本, 🙂, ]\r\nx: {ä: *gone}").startswith("<inline>:2:8: no anchor &gone")


def test_anchors_and_merge_keys_work() -> None:
    """R147: aliases share, `<<` brings defaults, own keys win, the first of several mappings wins."""
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], z: 5}\nd:\n  <<: *a\n  x: 0\ne: [*a, *a]\n"
    found = load(text)
    assert found["c"] == {"x": 1, "y": 2, "z": 5}
    assert found["d"] == {"x": 0, "y": 2}
    assert found["e"] == [{"x": 1, "y": 2}] * 2
    assert load("'<<': 1") == {"<<": 1}
    assert "takes a mapping" in refusal("a: {<<: 3}")


def test_alias_bombs_are_refused_at_once() -> None:
    """R147: nodes, text and merge keys that multiply."""
    nodes = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)
    )
    assert "grow it beyond measure" in refusal(nodes)
    assert "grow it beyond measure" in refusal(f"a: &a {'x' * 100_000}\nb: [{'*a,' * 1000}]")
    assert "inside its own anchor" in refusal("a: &a [1, *a]")
    deep = "a0: &a0 x\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 100))
    assert "deeper than 64 levels by the alias" in refusal(deep)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", '{"a": '])
def test_deep_nesting_is_refused_without_exhausting_the_stack(opening: str) -> None:
    assert "nested deeper than 64 levels" in refusal(opening * 100_000)


@pytest.mark.parametrize(
    "tagged",
    ["!!python/object/apply:os.system ['true']", "!!binary aGk=", "!!set {a}", "!!omap [a: 1]", "!mine 1",
     "!!timestamp 2001-01-01", "!<tag:example.com,2000:x> y", "!!int [1]", "!!map 3"],
)  # fmt: skip
def test_other_tags_than_those_of_json_are_refused(tagged: str) -> None:
    """R147: the safe loader's tags and fewer."""
    assert "is not allowed" in refusal(f"a: {tagged}")


def test_standard_tags_are_obeyed_and_checked() -> None:
    assert load("[!!str 1, !!int '2', !!float 3, !!bool yes, !!null '', !!seq [], !!map {}]") == [
        "1", 2, 3.0, True, None, [], {},
    ]  # fmt: skip
    assert "cannot be read as int" in refusal("!!int abc")
    assert "cannot be read as bool" in refusal("!!bool maybe")


def test_times_stay_text_as_they_are_written() -> None:
    """Inputs and arguments stay JSON."""
    assert load("[2001-01-01, 2001-12-14t21:59:43.10-05:00, '=', =]") == [
        "2001-01-01", "2001-12-14t21:59:43.10-05:00", "=", "=",
    ]  # fmt: skip


@pytest.mark.parametrize("word", [".nan", ".inf", "-.INF", "1.0e+999", "9" * 500, "1" + ":59" * 300, "0x_", "0b_"])
def test_numbers_that_json_does_not_know_are_refused(word: str) -> None:
    assert refusal(f"a: {word}").startswith("<inline>:1:4: ")


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("no", "reads no as false"),
        ("Yes", "reads Yes as true"),
        ("on", "reads on as true"),
        ("OFF", "reads OFF as false"),
        ("22:30", "reads 22:30 as 1350 (base 60)"),
        ("1:30.5", "reads 1:30.5 as 90.5 (base 60)"),
        ("010", "reads 010 as 8 (octal)"),
        ("1_000", "reads 1_000 as 1000"),
        ("1e5", "reads 1e5 as text"),
        ("0o17", "reads 0o17 as text"),
    ],
)
def test_what_yaml_reads_otherwise_than_it_looks_is_told_with_its_place(word: str, what: str) -> None:
    """R147: `no` and `22:30` become False and 1350; `validate` warns."""
    text = "cascade: x\nsteps:\n  - {id: a, task: t, with: {v: %s}}\n"
    cascade, warnings = read_with_warnings(from_text(text % word))
    assert [(one.line, one.column) for one in warnings] == [(3, 32)]
    assert what in str(warnings[0])
    assert str(warnings[0]).endswith(" " * 31 + "^")
    assert cascade.steps[0].arguments == {"v": yaml.safe_load(word)}
    assert read_with_warnings(from_text(text % f'"{word}"'))[1] == []


@pytest.mark.parametrize("word", ["true", "False", "null", "~", "0", "-17", "0x1F", "1.5", "12", "0.5", "x", "y"])
def test_what_reads_as_it_looks_is_not_warned_about(word: str) -> None:
    text = f"cascade: x\nsteps:\n  - {{id: a, task: t, with: {{v: {word}}}}}\n"
    assert read_with_warnings(from_text(text))[1] == []


def test_very_many_warnings_end_after_the_first_hundred() -> None:
    text = f"cascade: x\nsteps: [{{id: a, task: t, with: [[{'no,' * 5000}]]}}]"
    assert len(read_with_warnings(from_text(text))[1]) == 100


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "1:1: the file is empty"),
        ("# only a comment\n", "1:1: the file is empty"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document starts here"),
        ("a:\n\tb: 1\n", "2:1: a tab cannot indent YAML; use spaces"),
        ("a: b: c\n", "1:5: a ': ' is not expected here"),
        ("a: @x\n", "1:4: '@' cannot start a value; put the text in quotes"),
        ("a: {{ inputs.x }}\n", '1:5: a key must be text; put a template in quotes: "{{ … }}"'),
        ("? [a, b]\n: 1\n", "1:3: a key must be text; a list or mapping cannot be one"),
        ("!!int 1: x\n", "1:1: a key is always text"),
        ("a: 'unclosed\n", "found unexpected end of stream"),
        ("a: [1, 2\n", "2:1: did not find expected"),
        ("a: \x07\n", "a character that YAML does not allow"),
        ("%YAML 3.0\n---\na: 1\n", "1:1: found incompatible YAML document"),
        ('a: "\\ud800"', "1:7: "),
    ],
)
def test_text_that_is_no_yaml_names_line_column_and_cure(text: str, what: str) -> None:
    assert what in refusal(text)


@pytest.mark.usefixtures("both_parsers")
def test_both_parsers_read_the_same() -> None:
    lines = ["a: &x [1, no, 'q', \"\\u00e9\", 2001-01-01]", "b: |", "  line", "   more", "c: >-", "  a", "  b", "d: *x"]
    text = "\ufeff" + "".join(line + "\r\n" for line in lines)
    one = [1, False, "q", "é", "2001-01-01"]
    assert load(text) == {"a": one, "b": "line\n more\n", "c": "a b", "d": one}


def test_bytes_that_are_not_utf_8_are_refused_with_the_offset_of_the_byte() -> None:
    """R2: never guessed."""
    with pytest.raises(DefinitionError, match=r"<inline>:2:5: byte 9 \(0xe9\) is not UTF-8"):
        parse(from_bytes(b"a: b\nc: d\xe9\n", source_format="inline"))
    with pytest.raises(DefinitionError, match="byte 0") as caught:
        parse(from_bytes("a: b".encode("utf-16")))
    assert "UTF-16" in str(caught.value)


def test_escape_codes_in_a_file_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in refusal('a: {"\x9b31m": 1, x: *gone, "\\e[31m": 2}')


@pytest.mark.usefixtures("both_parsers")
def test_an_escape_that_is_no_character_is_refused_by_both_parsers() -> None:
    assert refusal('a: "\\UFFFFFFFF"').startswith("<inline>:1:")
