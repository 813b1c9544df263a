import time

import pytest

from celery_cascade.definition import Cascade, RetryPolicy, from_text, make_plan, read_cascade, read_with_warnings
from celery_cascade.errors import DefinitionError

HEAD = "cascade: order\nsteps:\n"
ONE = "cascade: order\nsteps: [{id: a, task: t}]\n"


def read(text: str) -> Cascade:
    return read_cascade(from_text(text))


def refusal(text: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        read(text)
    assert str(caught.value).endswith(caught.value.hint)
    return f"{caught.value.message}\n{caught.value.excerpt}"


def step(fields: str) -> str:
    return f"{HEAD}  - {{id: first, task: t}}\n  - {{id: a, task: t, {fields}}}\n"


def test_an_error_shows_file_line_column_and_the_line_with_a_caret(tmp_path: object) -> None:
    """R150: what, where, and what to do."""
    text = HEAD + "  - id: charge\n    task: t\n  - id: charge\n    task: t\n"
    assert refusal(text) == (
        "<inline>:5:5: step 'charge' appears twice; give one of them another id\n  - id: charge\n    ^"
    )


def test_every_field_of_a_step_is_read() -> None:
    found = read(
        HEAD + "  - {id: first, task: a.b}\n"
        "  - id: second\n    task: shop.charge\n    description: words\n    with: {n: 1, deep: {a: [x]}}\n"
        "    needs: [first]\n    when: ' {{ outputs.first.ok }} '\n    timeout: 1h30m\n    queue: slow\n"
        "    priority: 9\n    phase: Charging the card\n"
        "    retry: {max_attempts: 5, backoff: linear, delay: 500ms, max_delay: 1m, errors: [OSError, a.b.C]}\n"
    ).steps[1]
    assert (found.id, found.task, found.needs) == ("second", "shop.charge", ("first",))
    assert found.arguments == {"n": 1, "deep": {"a": ["x"]}}
    assert found.when == "{{ outputs.first.ok }}"
    assert (found.timeout, found.queue, found.priority, found.phase) == (5400, "slow", 9, "Charging the card")
    assert found.retry == RetryPolicy(
        max_attempts=5, backoff="linear", delay=0.5, max_delay=60, errors=("OSError", "a.b.C")
    )


def test_a_list_gives_positional_arguments_and_nothing_gives_none() -> None:
    assert read(step("with: [1, {a: 2}]")).steps[1].arguments == (1, {"a": 2})
    assert read(ONE).steps[0].arguments == {}


def test_a_step_needs_the_one_before_it_unless_it_says_otherwise() -> None:
    """DESIGN 6: default needs."""
    text = HEAD + "".join(
        f"  - {{id: {key}, task: t{needs}}}\n"
        for key, needs in [("a", ""), ("b", ""), ("c", ", needs: []"), ("d", ", needs: [a, c]"), ("e", ", needs: b")]
    )
    assert [one.needs for one in read(text).steps] == [(), ("a",), (), ("a", "c"), ("b",)]


def test_phases_and_cells_are_read_as_steps_but_only_one_of_them() -> None:
    """D1: aliases read in files."""
    for word in ("phases", "cells"):
        assert read(ONE.replace("steps", word)).steps[0].id == "a"
    assert "steps, cells mean the same; keep one of them" in refusal(ONE + "cells: []\n")


def test_defaults_are_merged_under_steps_and_retry_key_by_key() -> None:
    text = (
        "cascade: x\n"
        "defaults: {retry: {max_attempts: 3, delay: 2s}, timeout: 5m, queue: q, priority: 1, on_crash: ask}\n"
        "steps:\n"
        "  - {id: a, task: t}\n"
        "  - {id: b, task: t, retry: {delay: 7, errors: OSError}, timeout: 10, queue: other}\n"
        "  - {id: c, task: t, retry: 5, timeout: null, queue: null, priority: null, on_crash: retry}\n"
    )
    a, b, c = read(text).steps
    assert [step.on_crash for step in (a, b, c)] == ["ask", "ask", "retry"]
    assert (a.retry, a.timeout, a.queue, a.priority) == (RetryPolicy(max_attempts=3, delay=2), 300, "q", 1)
    assert (b.retry, b.timeout, b.queue) == (RetryPolicy(max_attempts=3, delay=7, errors=("OSError",)), 10, "other")
    assert (c.retry, c.timeout, c.queue, c.priority) == (RetryPolicy(max_attempts=5, delay=2), None, None, None)


def test_a_delay_longer_than_the_usual_longest_raises_it_and_a_contradiction_is_refused() -> None:
    assert read(step("retry: {max_attempts: 2, delay: 2h}")).steps[1].retry.max_delay == 7200
    assert "delay (60s) is longer than max_delay (10s)" in refusal(step("retry: {delay: 1m, max_delay: 10s}"))


def test_a_retry_that_never_tries_again_is_warned_about() -> None:
    _, warnings = read_with_warnings(from_text(step("retry: {delay: 1m}")))
    assert "without max_attempts never tries again" in warnings[0].message


def test_output_may_be_absent_null_or_any_structure() -> None:
    assert not read(ONE).has_output
    assert read(ONE + "output: null\n").has_output
    assert read(ONE + "output: {x: ['{{ outputs.a.b }}', 1]}\n").output == {"x": ["{{ outputs.a.b }}", 1]}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[]", "1:1: a definition must be a mapping, not a list"),
        ("x", "1:1: a definition must be a mapping, not the text 'x'"),
        ("steps: []", "a definition needs an id; add cascade: some-name"),
        ("cascade: x", "a definition needs steps"),
        ("cascade: x\nsteps: []", "2:8: steps must hold at least one step"),
        ("cascade: x\nsteps: {a: {task: t}}", "2:8: steps must be a list, not a mapping"),
        ("cascade: x\nsteps:\n", "steps must be a list, not null"),
        ("cascade: x\nsteps: [a]", "2:9: step 1 must be a mapping, not the text 'a'"),
        ("cascade: no\nsteps: []", "1:10: cascade must be text"),
        ("cascade: ''\n" + ONE[15:], "cascade must not be empty"),
        ("cascade: ' x'\n" + ONE[15:], "cascade has blanks around it"),
        ("cascade: \"a\\nb\"\n" + ONE[15:], "cannot be printed: 'a\\nb'"),
        (f"cascade: {'x' * 256}\n" + ONE[15:], "cascade has 256 characters; at most 255"),
        ("cascade: '{{ inputs.x }}'\n" + ONE[15:], "cascade cannot be a template"),
        (ONE + "stepz: 1", "unknown key 'stepz'; did you mean 'steps'?"),
        (ONE + "xyz: 1", "unknown key 'xyz'; known are cascade, "),
        (ONE + "description: 3", "description must be text, not the integer 3"),
        (ONE + "defaults: {tmeout: 3}", "defaults: unknown key 'tmeout'; did you mean 'timeout'?"),
        (ONE + "defaults: {on_error: continue}", "'on_error' is not yet supported in this version"),
        (ONE + "defaults: {on_crash: aks}", "defaults: on_crash must be one of retry, fail, ask, not 'aks'"),
        (HEAD + "  - {task: t}", "3:5: step 1 has no id"),
        (HEAD + "  - {ID: a, task: t}", "unknown key 'ID'; did you mean 'id'?"),
        (HEAD + "  - {id: a}", "step 'a' has no task"),
        (HEAD + "  - {id: on, task: t}", 'the id of step 1 must be text, not the boolean True; put it in quotes: "on"'),
        (HEAD + "  - {id: 7, task: t}", "not the integer 7; put it in quotes"),
        (HEAD + "  - {id: a b, task: t}", "'a b' cannot be the id of a step"),
        (HEAD + "  - {id: 1a, task: t}", "'1a' cannot be the id of a step"),
        (HEAD + "  - {id: é, task: t}", "'é' cannot be the id of a step"),
        (HEAD + f"  - {{id: {'a' * 51}, task: t}}", "up to 50 letters"),
        (HEAD + '  - {id: "a\\n", task: t}', "cannot be the id of a step"),
        (HEAD + f"  - {{id: a, task: {'t' * 256}}}", "task has 256 characters"),
        (HEAD + "  - {id: a, task: '{{ inputs.t }}'}", "task cannot be a template"),
        (step("wiht: {}"), "4:22: step 'a': unknown key 'wiht'; did you mean 'with'?"),
        (step("with: 3"), "with must be a mapping (keyword arguments) or a list (positional ones), not the integer 3"),
        (step("with: null"), "with must be a mapping"),
        (step("needs: {b: 1}"), "needs must be a list of ids, not a mapping"),
        (step("needs: [frist]"), "step 'a' needs 'frist', which is no step; did you mean 'first'?"),
        (step("needs: [zzz]"), "which is no step; the steps are first"),
        (step("needs: [a]"), "step 'a' needs itself"),
        (step("needs: [first, first]"), "step 'a' needs 'first' twice"),
        (step("needs: [3]"), "each of its needs must be text, not the integer 3"),
        (step("needs: null"), "each of its needs must be text, not null"),
        (step("when: 3"), 'when must be "{{ … }}", true or false, not the integer 3'),
        (step("when: outputs.first.ok"), "when must be exactly one"),
        (step("when: 'not {{ outputs.first }}'"), "when must be exactly one"),
        (step("retry: true"), "must be a mapping, not the boolean True"),
        (step("retry: 0"), "must be from 1 to 1,000,000, not 0"),
        (step("retry: {max_attempts: 1.5}"), "max_attempts must be a whole number"),
        (step("retry: {backoff: exponentail}"), "did you mean 'exponential'?"),
        (step("retry: {delay: -1}"), "delay: -1 must be a duration of 0 or more"),
        (step("retry: {dealy: 1}"), "unknown key 'dealy'; did you mean 'delay'?"),
        (step("retry: {errors: ['a b']}"), "'a b' is not the name of an exception class"),
        (step("timeout: 0"), "timeout: 0 must be more than 0"),
        (step("timeout: 5min"), "timeout: 5min is not a duration; write it as 30s"),
        (step("timeout: true"), "timeout: true must be a duration"),
        (step("timeout: []"), "timeout must be a duration such as 30s or 5m, not a list"),
        (step("timeout: 99999w"), "longer than ten years"),
        (step("queue: 3"), "queue must be text"),
        (step("queue: ''"), "queue must not be empty"),
        (step("on_crash: retyr"), "on_crash must be one of retry, fail, ask, not 'retyr'; did you mean 'retry'?"),
        (step("on_crash: null"), "on_crash must be one of retry, fail, ask, not 'null'"),
        (step("on_crash: [ask]"), "on_crash must be one of retry, fail, ask, not a list"),
        (step("priority: 256"), "priority must be from 0 to 255, not 256"),
        (step("priority: high"), "priority must be a whole number, not the text 'high'"),
        (step("priority: true"), "priority must be a whole number"),
        (step(f"phase: {'p' * 51}"), "phase has 51 characters; at most 50"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_with_its_place_and_the_nearest_right_word(text: str, what: str) -> None:
    """R150: what, which id, and what to write instead."""
    message = refusal(text)
    assert what in message
    assert message.startswith("<inline>:")
    assert message.endswith("^")


LATER = "map max_parallel on_error wait routes cascade compensates execution sleep until signal"


@pytest.mark.parametrize("key", LATER.split())
def test_what_a_later_version_will_know_is_refused_by_name_and_never_ignored(key: str) -> None:
    assert f"step 'a': '{key}' is not yet supported in this version" in refusal(step(f"{key}: 1"))


@pytest.mark.parametrize("key", ["triggers", "canvas", "functions"])
def test_whole_parts_that_are_not_yet_supported_are_refused_by_name(key: str) -> None:
    assert f"'{key}' is not yet supported in this version" in refusal(ONE + f"{key}: []")


def test_a_circle_of_needs_is_named_as_the_way_round() -> None:
    text = HEAD + "".join(
        f"  - {{id: {key}, task: t, needs: [{needs}]}}\n"
        for key, needs in [("root", ""), ("a", "root, c"), ("b", "a"), ("c", "b"), ("after", "c")]
    )
    assert "steps wait for one another: a → c → b → a" in refusal(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (step("with: {x: '{{ outputs.frist.n }}'}"), "4:32: step 'a': with: outputs.frist: no such step; did you mean"),
        (step("with: {x: '{{ outputs.a.n }}'}"), "the step's own output"),
        (step("needs: [], with: ['{{ outputs.first }}']"), "'first' is not before 'a'; add it to needs"),
        (step("when: '{{ outputs.zzz }}'"), "step 'a': when: outputs.zzz: no such step; the steps before it are first"),
        (step("with: ['{{ inputs.oder }}']") + "inputs: {order: string}", "not declared under inputs; did you mean"),
        (step("with: ['{{ inputs.x }}']") + "inputs: {}", "inputs.x is not declared"),
        (step("with: ['{{ session.name }}']"), "session has no 'name'; it has id"),
        (step("with: ['{{ x }}']"), "'x' is not known; a template may name inputs, outputs, session"),
        (step("with: ['{{ outputs[inputs.x] }}']"), "takes the id of a step in quotes"),
        (step("with: ['{{ outputs }}']"), "outputs needs the id of a step"),
        (step("with: ['{{ outputs | length }}']"), "outputs needs the id of a step"),
        (step("with: ['{% if 1 %}']"), "statements such as {% if 1 %} are not allowed"),
        (step("with: ['a {# b #}']"), "comments such as {# b #} are not allowed"),
        (step("with: ['{{ 1 + }}']"), "step 'a': with: "),
        (step("with: ['{{ inputs.x']"), "has no end; is }} missing?"),
        (step("with: ['{{ inputs.x | uper }}']"), "there is no filter 'uper'; did you mean 'upper'?"),
        (ONE + "output: '{{ outputs.b }}'", "3:9: output: outputs.b: no such step; "),
        (ONE + "inputs: {n: integer}\noutput: ['{{ inputs.m }}']", "output: inputs.m is not declared"),
    ],
)  # fmt: skip
def test_templates_are_checked_when_the_file_is_read(text: str, what: str) -> None:
    """DESIGN 6: a name that is no step is an error; outputs only of transitive needs."""
    assert what in refusal(text)


def test_templates_may_name_every_transitive_need_and_the_output_any_step() -> None:
    text = HEAD + (
        "  - {id: a, task: t}\n  - {id: b-2, task: t}\n"
        "  - {id: c, task: t, with: {x: '{{ outputs.a.n }} {{ outputs[\"b-2\"] }}'}, when: '{{ outputs.a }}'}\n"
        "output: ['{{ outputs.a }}', '{{ outputs.c }}', '{{ session.id }}', '{{ inputs.anything }}']\n"
    )
    assert len(read(text).steps) == 3
    wrong = text.replace('outputs["b-2"]', "outputs.b-2")
    assert "'2' is not" not in refusal(wrong)
    assert "b-2" in refusal(wrong)


def test_keys_are_not_templates_and_that_is_told() -> None:
    _, warnings = read_with_warnings(from_text(step("with: {'{{ x }}': 1}")))
    assert "keys are not templates" in warnings[0].message


def test_inputs_are_json_schemas_or_bare_type_names() -> None:
    text = ONE + "inputs:\n  n: integer\n  none: null\n  email: {type: string, default: ''}\n  any: {}\n"
    assert read(text).inputs == {
        "n": {"type": "integer"}, "none": {"type": "null"}, "email": {"type": "string", "default": ""}, "any": {},
    }  # fmt: skip
    assert read(ONE).inputs is None
    assert read(ONE + "inputs: {}").inputs == {}


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ("{n: int}", "3:13: inputs.n: 'int' is not a type; types are string, "),
        ("{n: int}", "did you mean 'integer'?"),
        ("{n: {type: strng}}", "inputs.n.type: 'strng' is not a type"),
        ("{n: 3}", "must be a mapping, not the integer 3"),
        ("[n]", "inputs must be a mapping, not a list"),
        ("{n: {type: string, minLength: -1}}", "inputs.n.minLength: -1 is less than the minimum of 0"),
        ("{n: {type: object, properties: {a: {type: wrong}}}}", "inputs.n.properties.a.type: "),
        ("{n: {required: true}}", "inputs.n.required: "),
        ("{n: {pattern: '('}}", "inputs.n.pattern: "),
        ("{n: {type: integer, default: x}}", "inputs.n: the default does not fit: 'x' is not of type 'integer'"),
        ("{n: {$ref: 'http://127.0.0.1:1/x'}}", "$ref is not supported"),
        ("{n: {items: [{$ref: '#'}]}}", "$ref is not supported"),
        ("{n: " + "{not: " * 20 + "{}" + "}" * 20 + "}", "nested deeper than 16 levels"),
        ("{n: {enum: [" + "1," * 3000 + "]}}", "hold more than 2,000 values"),
    ],
)
def test_an_input_whose_schema_is_wrong_is_refused_with_its_place(inputs: str, what: str) -> None:
    assert what in refusal(ONE + f"inputs: {inputs}")


def test_a_misspelt_schema_keyword_is_warned_about() -> None:
    _, warnings = read_with_warnings(from_text(ONE + "inputs: {n: {type: string, defualt: x}}"))
    assert "JSON Schema has no 'defualt'; did you mean 'default'?" in warnings[0].message


def test_a_thousand_steps_read_in_a_few_seconds_of_cpu() -> None:
    text = "cascade: x\ninputs: {n: integer}\nsteps:\n" + "".join(
        f"  - id: s{number}\n    task: a.b\n    retry: {{max_attempts: 3, delay: 2s}}\n    with:\n"
        f"      n: '{{{{ inputs.n + {number} }}}}'\n"
        + (f"      rows: '{{{{ outputs.s{number - 1}.rows | length }}}}'\n" if number else "")
        for number in range(1000)
    )
    began = time.process_time()
    assert len(read(text).steps) == 1000
    assert time.process_time() - began < 4


def test_more_steps_than_the_limit_are_refused() -> None:
    assert "10,001 steps; at most 10,000" in refusal("cascade: x\nsteps: [" + "{id: a, task: t}," * 10_001 + "]")


def test_a_chain_of_ten_thousand_steps_is_planned_in_little_memory() -> None:
    """One bit for each ancestor: sets would take gigabytes."""
    cascade = read("cascade: x\nsteps: [" + ",".join(f"{{id: s{number}, task: t}}" for number in range(10_000)) + "]")
    ancestors = make_plan(cascade).ancestors
    assert len(ancestors["s9999"]) == 9999
    assert "s0" in ancestors["s9999"]
    assert "s9999" not in ancestors["s9998"]
    assert ancestors["s2"] == frozenset({"s0", "s1"})
    assert ancestors["s1"] | ancestors["s2"] == {"s0", "s1"}
    assert ancestors["s0"] == frozenset()
