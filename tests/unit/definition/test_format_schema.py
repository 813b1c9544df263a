"""The JSON Schema of the file format: it accepts what the reader accepts, and refuses what has the wrong shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from celery_cascade.definition import from_bytes, from_mapping, from_text, read_cascade, retries, schemas, steps
from celery_cascade.definition.document import parse
from celery_cascade.definition.format_schema import format_schema
from celery_cascade.definition.reader import ROOT_KEYS, STEP_LISTS
from celery_cascade.errors import DefinitionError

ROOT = Path(__file__).parents[3]
SCHEMA = format_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def fits(mapping: Any) -> bool:
    return VALIDATOR.is_valid(mapping)


def reads(mapping: Any) -> bool:
    try:
        read_cascade(from_mapping(mapping))
    except DefinitionError:
        return False
    return True


def test_it_is_a_schema_of_its_draft() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


def test_its_keys_are_those_of_the_reader() -> None:
    """They cannot drift: a key that the reader learns has to be described here."""
    defs = SCHEMA["$defs"]
    assert set(SCHEMA["properties"]) == set(ROOT_KEYS)
    assert set(defs["step"]["properties"]) == set(steps.STEP_KEYS)
    assert set(SCHEMA["properties"]["defaults"]["properties"]) == set(steps.DEFAULT_KEYS)
    assert set(defs["retry"]["anyOf"][1]["properties"]) == set(retries.KEYS)
    assert {one["required"][0] for one in SCHEMA["oneOf"]} == set(STEP_LISTS)
    assert SCHEMA["properties"]["inputs"]["additionalProperties"]["anyOf"][0]["enum"] == [*schemas.TYPES, None]


def objects(schema: Any, path: str = "") -> Any:
    if isinstance(schema, dict):
        if "properties" in schema and isinstance(schema["properties"], dict) and "type" in schema:
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects(value, f"{path}/{number}")


def test_every_key_has_words_for_the_editor_and_no_object_takes_others() -> None:
    for path, found in objects(SCHEMA):
        if not path.startswith("/$defs/input"):
            assert found["additionalProperties"] is False, path
            for key, value in found["properties"].items():
                target = SCHEMA["$defs"][value["$ref"].rpartition("/")[2]] if set(value) == {"$ref"} else value
                assert target["description"], f"{path}/{key}"


def corpus() -> list[Any]:
    """Every definition in the documentation, the examples, the demo and the templates of `init`."""
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            if re.search(r"^cascade:", block, flags=re.MULTILINE):
                found.append(pytest.param(block, id=page.name))
    for folder in ("src", "examples", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.yaml")):
            found.append(pytest.param(path.read_text(encoding="utf-8"), id=path.name))
    return found


@pytest.mark.parametrize("text", corpus())
def test_every_definition_that_is_shown_to_people_fits(text: str) -> None:
    document = parse(from_text(text))
    assert list(VALIDATOR.iter_errors(document.root.plain())) == []
    read_cascade(from_text(text))


def test_there_is_a_corpus() -> None:
    assert len(corpus()) >= 3


ONE = {"cascade": "x", "steps": [{"id": "a", "task": "t"}]}
VALID = [
    "cascade: x\nsteps: [{id: a, task: t}]\n",
    '{"$schema": "./cascade.schema.json", "cascade": "x", "steps": [{"id": "a", "task": "t"}]}',
    "cascade: x\nphases: [{id: a, task: t}]\ndescription: ''\n",
    "cascade: x\ncells: [{id: a, task: t, with: [1, {a: 2}]}]\noutput: null\n",
    "cascade: x\nsteps: [{id: a, task: t}, {id: b, task: t, needs: a}, {id: c, task: t, needs: [a, b]}]\n",
    "cascade: x\nsteps: [{id: a, task: t, needs: [], when: ' {{ inputs.ok }} ', timeout: 1h30m}]\n",
    "cascade: x\nsteps: [{id: a, task: t, when: false, timeout: 0.5, retry: 5, priority: 255}]\n",
    "cascade: x\ndefaults: {retry: {max_attempts: 3, delay: 2s}, timeout: 5m, queue: q}\nsteps: [{id: a, task: t}]",
    "cascade: x\nsteps: [{id: a, task: t, timeout: null, queue: null, priority: null, retry: {errors: OSError}}]\n",
    "cascade: x\ndefaults: {on_crash: fail}\nsteps: [{id: a, task: t, on_crash: ask}]\n",
    "cascade: x\ninputs: {n: integer, no: null, mail: {type: string, default: ''}, any: {}}\nsteps: [{id: a, task: t}]",
    "cascade: x\nsteps: [{id: _a-1, task: a.b, phase: Charging the card, description: words}]\n",
    "cascade: x\ninputs: {}\nsteps: [{id: a, task: 'Größe'}]\noutput: {x: ['{{ outputs.a }}', 1]}\n",
    "cascade: x\nsteps: [{id: a, task: t, retry: {backoff: none, delay: 0, max_delay: 1d, errors: [a.B, C]}}]\n",
]


@pytest.mark.parametrize("text", VALID)
def test_what_the_reader_accepts_fits(text: str) -> None:
    read_cascade(from_text(text))
    assert list(VALIDATOR.iter_errors(parse(from_text(text)).root.plain())) == []


def test_the_published_kind_of_definition_fits() -> None:
    path = Path(__file__).with_name("test_real_definitions.py")
    etl = re.search(r'ETL = b"""\\\n(.*?)"""  # without', path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert etl
    body = etl[1].replace("\\\\", "\\").replace('\\"', '"').encode()
    read_cascade(from_bytes(body))
    assert fits(parse(from_bytes(body)).root.plain())


def step(**fields: Any) -> dict[str, Any]:
    return {"cascade": "x", "steps": [{"id": "a", "task": "t"} | fields]}


@pytest.mark.parametrize(
    "wrong",
    [
        [], "x", None, {}, {"cascade": "x"}, {"steps": ONE["steps"]}, ONE | {"steps": []}, ONE | {"steps": {}},
        ONE | {"cells": ONE["steps"]}, ONE | {"cascade": ""}, ONE | {"cascade": " x"}, ONE | {"cascade": "{{ x }}"},
        ONE | {"cascade": 7}, ONE | {"cascade": "x" * 256}, ONE | {"stepz": 1}, ONE | {"triggers": []},
        ONE | {"description": 3}, ONE | {"$schema": 1},
        ONE | {"defaults": None}, ONE | {"defaults": {"with": {}}}, ONE | {"inputs": None},
        ONE | {"inputs": ["n"]}, ONE | {"inputs": {"n": "int"}}, ONE | {"inputs": {"n": 3}},
        ONE | {"inputs": {"n": {"type": "strng"}}}, ONE | {"inputs": {"n": {"$ref": "#"}}},
        ONE | {"inputs": {"n": {"required": True}}}, ONE | {"inputs": {"": "string"}},
        ONE | {"steps": ["a"]}, ONE | {"steps": [{"task": "t"}]}, ONE | {"steps": [{"id": "a"}]},
        step(id="a b"), step(id="1a"), step(id="a" * 51), step(id=7), step(task=""), step(task="{{ inputs.t }}"),
        step(task="t" * 256), step(wiht={}), step(ID="x"), step(map="x"), step(wait="approval"),
        {"cascade": "x", "steps": [{"id": "a", "task": "t", "with": 3}]},
        {"cascade": "x", "steps": [{"id": "a", "task": "t", "with": None}]},
        step(needs={"b": 1}), step(needs=[3]), step(needs=None), step(needs=["b", "b"]), step(when=3),
        step(when="outputs.a"), step(retry=True), step(retry=0), step(retry={"max_attempts": 1.5}), step(retry=None),
        step(retry={"backoff": "expo"}), step(retry={"delay": -1}), step(retry={"dealy": 1}),
        step(retry={"errors": ["a b"]}), step(timeout=0), step(timeout="5min"), step(timeout=True), step(timeout=[]),
        step(timeout=1e9), step(queue=3), step(queue=""), step(priority=256), step(priority="high"),
        step(priority=True), step(phase="p" * 51), step(description=1),
        step(on_crash="aks"), step(on_crash=None), step(on_crash=True), ONE | {"defaults": {"on_crash": None}},
    ],
)  # fmt: skip
def test_what_the_reader_refuses_for_its_shape_does_not_fit(wrong: Any) -> None:
    assert not reads(wrong)
    assert not fits(wrong)


names = st.sampled_from(["t", "shop.charge", "a b", "Größe", "x" * 255])
durations = st.sampled_from(["500ms", "30s", "1h30m", "2d"]) | st.floats(0.001, 1e6) | st.integers(1, 10**6)
policies = st.integers(1, 1000) | st.fixed_dictionaries(
    {"max_attempts": st.integers(1, 1000)},
    optional={
        "backoff": st.sampled_from(retries.BACKOFFS), "delay": durations, "max_delay": st.just("9w"),
        "errors": st.sampled_from(["OSError", ["a.B", "C"], []]),
    },
)  # fmt: skip
common = {
    "retry": policies, "timeout": st.none() | durations, "queue": st.none() | names,
    "priority": st.none() | st.integers(0, 255), "on_crash": st.sampled_from(["retry", "fail", "ask"]),
}  # fmt: skip
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "x", "{{ inputs.n }}"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "no"]), inner, max_size=2),
    max_leaves=4,
)
bodies = st.fixed_dictionaries(
    {"task": names},
    optional=common | {
        "with": st.dictionaries(st.sampled_from(["a", "b"]), plain, max_size=2) | st.lists(plain, max_size=2),
        "needs": st.just([]), "when": st.sampled_from([True, False, "{{ inputs.n > 1 }}"]), "phase": st.just("p"),
        "description": st.just(""),
    },
)  # fmt: skip
inputs = st.fixed_dictionaries(
    {"n": st.sampled_from(["integer", {"type": ["integer", "null"], "default": 1}, {}, {"enum": [1, 2]}])}
)


def made(name: str, key: str, found: list[dict[str, Any]], rest: dict[str, Any]) -> dict[str, Any]:
    return {"cascade": name, key: [one | {"id": f"s{at}"} for at, one in enumerate(found)]} | rest


cascades = st.builds(
    made, names, st.sampled_from(STEP_LISTS), st.lists(bodies, min_size=1, max_size=3),
    st.fixed_dictionaries(
        {"inputs": inputs},
        optional={"description": st.just("d"), "defaults": st.fixed_dictionaries({}, optional=common), "output": plain},
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(cascades)
def test_generated_definitions_read_and_fit(mapping: dict[str, Any]) -> None:
    read_cascade(from_mapping(mapping))
    assert list(VALIDATOR.iter_errors(mapping)) == []


@settings(max_examples=60, deadline=None)
@given(cascades, st.data())
def test_a_generated_definition_with_a_wrong_key_does_neither(mapping: dict[str, Any], data: st.DataObject) -> None:
    (key,) = [one for one in STEP_LISTS if one in mapping]
    places = [mapping, mapping[key][0], mapping.get("defaults"), mapping[key][0].get("retry")]
    place = data.draw(st.sampled_from([one for one in places if isinstance(one, dict)]))
    place["unheard_of"] = 1
    assert not reads(mapping)
    assert not fits(mapping)
