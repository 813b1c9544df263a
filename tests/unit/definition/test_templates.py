import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_cascade.definition import names_of, render
from celery_cascade.definition.expressions import expression
from celery_cascade.definition.templates import check
from celery_cascade.errors import TemplateError

CONTEXT: dict[str, Any] = {
    "inputs": {"n": 3, "name": "Ann", "text": "{{ 1 + 1 }}", "digits": "123", "on": True, "none": None, "f": 1.5},
    "outputs": {
        "load": {"rows": [3, 1, 2], "items": "the key", "total": 6, "_id": 9, "deep": {"a": [{"b": "c"}]}, "": 0},
        "people": [{"name": "B", "age": 2, "ok": True}, {"name": "a", "age": 1}],
        "skipped": None,
        "step-2": "two",
    },
    "session": {"id": "s1"},
}


def run(template: Any, context: Any = CONTEXT) -> Any:
    return render(template, context, where="w")


def refusal(template: Any) -> str:
    with pytest.raises(TemplateError) as caught:
        run(template)
    return str(caught.value)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ inputs.n }}", 3),
        ("{{ inputs.digits }}", "123"),
        ("{{inputs.on}}", True),
        ("{{ inputs.none }}", None),
        ("{{ outputs.load.rows }}", [3, 1, 2]),
        ("{{ outputs.load.rows[0] }}", 3),
        ("{{ outputs.load['total'] + 1 }}", 7),
        ("{{ outputs['step-2'] }}", "two"),
        ("{{ outputs.skipped }}", None),
        ("{{ session.id }}", "s1"),
        ("{{ inputs }}", CONTEXT["inputs"]),
        ("{{ [1, (2, 3), {'a': inputs.n}] }}", [1, [2, 3], {"a": 3}]),
        ("{{ '123' }}", "123"),
        ("{{ 7 // 2 }}", 3),
        ("{{ 7 / 2 }}", 3.5),
        ("{{ 2 ** 10 % 1000 }}", 24),
        ("{{ -inputs.n }}", -3),
        ("{{ inputs.n > 2 and not inputs.none }}", True),
        ("{{ 'yes' if inputs.n in outputs.load.rows else 'no' }}", "yes"),
        ("{{ outputs.load.rows[1:] + [9] }}", [1, 2, 9]),
        ("{{ inputs.name ~ inputs.n ~ none }}", "Ann3None"),
        ("{{ 'ab' * 3 }}", "ababab"),
        ("{{ 'a' 'b' }}", "ab"),
        ("{{ {'}}': '{{'}['}}'] }}", "{{"),
        ('{{ "\\"}}" }}', '"}}'),
        ("{{ outputs.load.deep.a[0].b }}", "c"),
        ("{{ 1 < 2 < 3 }}", True),
    ],
)
def test_a_value_that_is_one_expression_keeps_the_type_of_the_expression(template: str, value: Any) -> None:
    found = run(template)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("Dear {{ inputs.name }}, {{ inputs.n }}!", "Dear Ann, 3!"),
        (" {{ inputs.n }}", " 3"),
        ("{{ inputs.n }}\n", "3\n"),
        ("{{ inputs.n }}{{ inputs.n }}", "33"),
        ("a\r\n{{ inputs.n }}\r\n", "a\r\n3\r\n"),
        ("a  {{- inputs.n -}}  b", "a3b"),
        ("{ {a} }} }", "{ {a} }} }"),
        ("{{ '{%' }} {{ '{{' }}", "{% {{"),
        ("", ""),
    ],
)
def test_any_other_template_is_text_and_keeps_every_character_around(template: str, value: str) -> None:
    assert run(template) == value


def test_values_are_data_and_never_rendered_again() -> None:
    """A template inside an input stays text."""
    assert run("{{ inputs.text }}") == "{{ 1 + 1 }}"
    assert run("x {{ inputs.text }}") == "x {{ 1 + 1 }}"
    assert run("{{ inputs.text | upper }}") == "{{ 1 + 1 }}"


def test_structures_are_walked_and_keys_are_not_templates() -> None:
    given = {"{{ inputs.n }}": [1, "{{ inputs.n }}", {"x": ("{{ inputs.name }}", None, True)}]}
    assert run(given) == {"{{ inputs.n }}": [1, 3, {"x": ["Ann", None, True]}]}
    assert run(()) == []
    assert run(7) == 7


def test_keys_of_a_mapping_win_over_methods() -> None:
    assert run("{{ outputs.load.items }}") == "the key"
    assert "there is no 'values'" in refusal("{{ outputs.load.values }}")
    assert run("{{ inputs.name.upper() }}") == "ANN"
    assert run("{{ outputs.load.deep.keys() }}") == ["a"]
    assert run("{{ outputs.load.get('nope', 5) }}") == 5
    assert run("{{ 'a,b'.split(',') }}") == ["a", "b"]
    assert run("{{ '-'.join(['a', 1]) }}") == "a-1"


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ outputs.load.nope | default(5) }}", 5),
        ("{{ outputs.skipped.x | default('none') }}", "none"),
        ("{{ inputs.none | d(1, true) }}", 1),
        ("{{ inputs.nope is defined }}", False),
        ("{{ inputs.none is none }}", True),
        ("{{ outputs.load.rows | length }}", 3),
        ("{{ outputs.load.rows | sort }}", [1, 2, 3]),
        ("{{ outputs.load.rows | sort(reverse=true) | first }}", 3),
        ("{{ outputs.people | sort(attribute='name') | map(attribute='name') }}", ["a", "B"]),
        ("{{ outputs.people | map(attribute='ok', default=false) | list }}", [True, False]),
        ("{{ outputs.people | selectattr('age', '>', 1) | map(attribute='name') | join(', ') }}", "B"),
        ("{{ outputs.people | rejectattr('age', 'eq', 1) | length }}", 1),
        ("{{ outputs.load.rows | select('odd') | list }}", [3, 1]),
        ("{{ outputs.load.rows | reject('in', [1]) }}", [3, 2]),
        ("{{ ['a', 'b'] | map('upper') }}", ["A", "B"]),
        ("{{ [] | first | default('empty') }}", "empty"),
        ("{{ [1, 2] | last }}", 2),
        ("{{ ['b', 'A', 'B', 1, 1] | unique }}", ["b", "A", 1]),
        ("{{ [1, 2.5] | sum }}", 3.5),
        ("{{ outputs.people | sum(attribute='age') }}", 3),
        ("{{ [1, 3] | max }}", 3),
        ("{{ [] | min | default(0) }}", 0),
        ("{{ -2 | abs }}", 2),
        ("{{ (-2) | abs }}", 2),
        ("{{ 2.567 | round(1) }}", 2.6),
        ("{{ 2.1 | round(method='ceil') | int }}", 3),
        ("{{ '7' | int + 1 }}", 8),
        ("{{ 'x' | int(0) }}", 0),
        ("{{ '1.5' | float }}", 1.5),
        ("{{ 7 | string }}", "7"),
        ("{{ ' a ' | trim }}", "a"),
        ("{{ 'a b' | title }}", "A B"),
        ("{{ 'aB' | capitalize }}", "Ab"),
        ("{{ 'aa' | replace('a', 'bc') }}", "bcbc"),
        ("{{ 'aa' | replace('a', 'b', 1) }}", "ba"),
        ("{{ 'hello world' | truncate(8, leeway=0) }}", "hello..."),
        ("{{ '%s-%03d' | format('a', 7) }}", "a-007"),
        ("{{ {'b': 1, 'a': 'é'} | tojson }}", '{"b": 1, "a": "é"}'),
        ("{{ {'b': 1, 'a': 2} | dictsort }}", [["a", 2], ["b", 1]]),
        ("{{ {'b': 1} | items }}", [["b", 1]]),
        ("{{ 'abc' | reverse }}", "cba"),
        ("{{ [1, 2] | reverse }}", [2, 1]),
        ("{{ 'a b&' | urlencode }}", "a%20b%26"),
        ("{{ 'ABC' | lower | count }}", 3),
    ],
)
def test_the_filters_give_plain_values(template: str, value: Any) -> None:
    found = run(template)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{{ outputs.load.rowz }}", "no 'rowz'; the keys are rows, items, total, _id, deep, ; did you mean 'rows'?"),
        ("{{ outputs.load.nope.deeper }}", "there is no 'nope'"),
        ("{{ outputs.gone.x }}", "there is no 'gone'; the keys are load, people, "),
        ("{{ inputs.nmae }}", "did you mean 'name'?"),
        ("{{ outputs.skipped.x }}", "null has no 'x'; the output of a skipped step is null"),
        ("{{ outputs.load.rows[7] }}", "there is no number 7; the list has 3, counted from 0"),
        ("{{ outputs.load.rows.x }}", "a list has no 'x'"),
        ("{{ inputs.n.real }}", "a integer has no 'real'"),
        ("{{ [inputs.nope] }}", "there is no 'nope'"),
        ("a {{ inputs.nope }}", "there is no 'nope'"),
        ("{{ inputs.nope ~ 'x' }}", "there is no 'nope'"),
        ("{{ inputs.nope + 1 }}", "there is no 'nope'"),
        ("{{ inputs.nope | upper }}", "there is no 'nope'"),
        ("{{ inputs.nope == 1 }}", "there is no 'nope'"),
        ("{{ 1 if inputs.nope }}", "there is no 'nope'"),
        ("{{ 'a' if false }}", "no else section"),
        ("{{ inputs.name + 1 }}", "string + integer makes no sense; join text with ~"),
        ("{{ '%s' % 1 }}", "string % integer makes no sense"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'x' | int }}", "'x' is not a number"),
        ("{{ 1 < 'a' }}", "not supported between"),
        ("{{ [1, 'a'] | sort }}", "not supported between"),
        ("{{ 5 | join }}", "this takes a list, not integer"),
        ("{{ inputs.f | tojson(indent=99) }}", "an indent from 0 to 8"),
    ],
)  # fmt: skip
def test_what_is_not_there_or_makes_no_sense_names_template_and_reason(template: str, what: str) -> None:
    """R150: where, which template, what there is instead."""
    message = refusal({"a": [template]})
    assert message.startswith("w.a[0]: {{ ")
    assert what in message


@pytest.mark.parametrize(
    "template",
    [
        "{{ inputs.__class__ }}", "{{ inputs._x }}", "{{ ''.__class__.__mro__ }}", "{{ inputs.name.format(1) }}",
        "{{ inputs.name.encode() }}", "{{ range(3) }}", "{{ lipsum() }}", "{{ cycler }}", "{{ dict(a=1) }}",
        "{{ self }}", "{{ namespace() }}", "{{ loop }}", "{{ x }}", "{{ outputs }}", "{{ outputs[inputs.name] }}",
        "{{ outputs.items() }}", "{{ outputs[0] }}", "{{ inputs.name | attr('x') }}", "{{ inputs | pprint }}",
        "{{ 1 | center(10) }}", "{{ 'a' | e }}", "{{ 'a' is callable }}", "{{ 'a' | join(*[1]) }}",
        "{{ 'a' | join(**{}) }}", "{{ 'a' | upper(1) }}", "{{ [1] | random }}", "{{ inputs.rows.append(1) }}",
        "{{ 'a'.split(sep=',') }}", "{{ (inputs.f)() }}", "{% if 1 %}{% endif %}", "{# c #}", "{{ 1 }}{% raw %}",
        "{{ }}", "{{", "{{ 1", "{{ 1 } }", "{{ 1 }} {{", "{{ 'a }}", "{{ 1 2 }}", "{{ a = 1 }}", "{{ 1 if }}",
        "{{ session.secret }}", "{{ _concatenate(1) }}", "{{ [1] | _method('x') }}",
        "{{ inputs.name | map('_method', 'upper') }}",
        "{{ outputs.a-b }}", "{{ " + "1+" * 3000 + "1 }}", "{{ " + "(" * 50 + "1" + ")" * 50 + " }}",
        "{{ " + "not " * 900 + "1 }}", "{{ 1" + "|abs" * 900 + " }}", "{{ " + "9" * 4000 + " }}",
        "{{ '\\ud800' | urlencode }}",
    ],
)  # fmt: skip
def test_whatever_is_not_on_the_list_is_refused(template: str) -> None:
    """Expressions only, over data only."""
    refusal(template)


def test_statements_are_refused_before_anything_runs() -> None:
    for template in ("{% set x = 1 %}", "{# x #}", "{{ inputs.__class__ }}", "{{ inputs.x | nope }}"):
        with pytest.raises(TemplateError, match=r"^steps\.a\.with: "):
            check({"a": [template]}, "steps.a.with")
    check({"a": ["{{ inputs.x }}", 3]}, "w")


def test_names_of_a_structure_are_the_steps_it_names() -> None:
    given = {"a": "{{ outputs.x.y }} {{ outputs['b-2'] }}", "l": ["{{ outputs.z | map(attribute='q') }}"], "n": 1}
    assert names_of(given) == {"x", "b-2", "z"}
    assert names_of(None) == names_of(True) == names_of("outputs.x") == frozenset()
    assert names_of(("{{ outputs.items.x if outputs.cond else inputs.outputs.no }}",)) == {"items", "cond"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c", "items"]), inner),
    max_leaves=10,
)  # fmt: skip


@given(json_values, st.lists(st.sampled_from(["a", "b", "c", "items"]), min_size=1, max_size=3))
def test_the_fast_way_for_dotted_paths_gives_what_jinja2_gives(value: Any, names: list[str]) -> None:
    """Same values, same errors: the brackets send the second one the slow way."""
    context = {"inputs": {"a": value, "b": value}, "outputs": {}, "session": {}}
    path = "inputs." + ".".join(names)
    assert expression(path).path
    assert not expression(f"({path})").path
    results = []
    for template in (f"{{{{ {path} }}}}", f"{{{{ ({path}) }}}}"):
        try:
            results.append(("value", repr(run(template, context))))
        except TemplateError as error:
            results.append(("error", str(error).replace(f"({path})", path)))
    assert results[0] == results[1]


@given(json_values)
def test_a_value_passes_through_unchanged_and_uncopied(value: Any) -> None:
    context = {"inputs": {"v": value}, "outputs": {}, "session": {}}
    assert run("{{ inputs.v }}", context) is value
    assert run("{{ [inputs.v][0] }}", context) is value


@given(st.text(alphabet="{}%#'\"inputs. n+|[]()-\\", max_size=30))
def test_any_text_renders_or_is_refused_with_a_template_error(text: str) -> None:
    with contextlib.suppress(TemplateError):
        run(text)
