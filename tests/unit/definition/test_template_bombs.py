"""Short expressions that ask for very much: each is refused within a second and without the memory."""

import time
import tracemalloc
from typing import Any

import pytest

from celery_cascade.definition import render
from celery_cascade.errors import TemplateError

CONTEXT: dict[str, Any] = {
    "inputs": {"s": "x" * 1000, "l": list(range(1000)), "big": "y" * 3_000_000, "n": 10**9, "tens": ["z" * 10] * 1000},
    "outputs": {},
    "session": {"id": "s"},
}
NEST = "{{ " + "'xx'" + " * 99" * 10 + " }}"
BOMBS = [
    "{{ 'x' * 10**9 }}",
    "{{ 10**9 * 'x' }}",
    "{{ [0] * 10**8 }}",
    "{{ [[0] * 1000] * 100000 }}",
    "{{ [[[[0] * 99] * 99] * 99] * 99 }}",
    "{{ 9**9**9 }}",
    "{{ 9**999999999 }}",
    "{{ (2**100) * (2**100) }}",
    "{{ 2.0**99999 }}",
    NEST,
    "{{ 'x' * inputs.n }}",
    "{{ inputs.s * inputs.n ~ '' }}",
    "{{ inputs.big * 20 }}",
    "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}",
    "{{ inputs.s | replace('', inputs.s) | replace('x', inputs.s) | replace('x', inputs.s) }}",
    "{{ inputs.l | join('x' * 1000000) }}",
    "{{ inputs.l | map('replace', '1', inputs.big) | list }}",
    "{{ inputs.l | map('default', inputs.big) | join(inputs.big) }}",
    "{{ inputs.tens | map('replace', 'z', inputs.s) | map('replace', 'x', inputs.s) }}",
    "{{ inputs.l | map('string') | map('join', inputs.big) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '%*d' | format(1000000000, 1) }}",
    "{{ '%.1000000000f' | format(1) }}",
    "{{ '%1000000000s' % 'x' }}",
    "{{ 'x' | center(1000000000) }}",
    "{{ 'x'.center(1000000000) }}",
    "{{ 'x'.ljust(1000000000) }}",
    "{{ 'x'.zfill(1000000000) }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ 'x' | indent(1000000000) }}",
    "{{ range(10**9) | list }}",
    "{{ lipsum(n=100000) }}",
    "{{ inputs.s.join(inputs.s * 1000).join(inputs.s) }}",
    "{{ 5 | round(-1000000000) }}",
    "{{ [" + "inputs.big, " * 9 + "] }}",
    "{{ ([[inputs.l] * 99] * 99) | tojson }}",
    "{{ ([[inputs.l] * 99] * 99) ~ '' }}",
    "{{ ([[inputs.l] * 99] * 99) == ([[inputs.l] * 99] * 99) }}",
    "{{ (inputs.l * 100) | select('in', inputs.l * 100) }}",
    "{{ ('9' * 1000000) | int }}",
    "{{ inputs.s + inputs.big * 9 + inputs.big }}",
    "{{ inputs.big " + "~ inputs.big " * 300 + "}}",
    ["{{ inputs.s * 900 }}"] * 1000,
    ["{{ inputs.big }}"] * 1000,
    ["a{{ inputs.big }}"] * 1000,
    "{{ inputs.big }}" * 200,
]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: str(bomb)[:60])
def test_a_short_template_that_asks_for_very_much_is_refused_fast(bomb: Any) -> None:
    """DESIGN 6: cost is bounded by the input's size; one such expression took 900 MB of the bare sandbox."""
    began = time.process_time()
    with pytest.raises(TemplateError):
        render(bomb, CONTEXT, where="w")
    assert time.process_time() - began < 1
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            render(bomb, CONTEXT, where="w")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 120_000_000  # eight times the context of 3 MB, four bytes a character


def test_what_grows_with_the_context_is_allowed() -> None:
    """A megabyte in all cases, and several times the size of what is there."""
    assert len(render("{{ 'x' * 1000000 }}", {"inputs": {}}, where="w")) == 1_000_000
    assert len(render("{{ inputs.big | upper | lower ~ inputs.s }}", CONTEXT, where="w")) == 3_001_000
    assert len(render("<{{ inputs.big | replace('y', 'zz') }}>", CONTEXT, where="w")) == 6_000_002


def test_plain_paths_pass_large_values_on_without_measuring_them() -> None:
    found = render(["{{ inputs.big }}"] * 20, CONTEXT, where="w")
    assert all(one is CONTEXT["inputs"]["big"] for one in found)


def test_a_failed_render_leaves_nothing_behind_for_the_next_one() -> None:
    with pytest.raises(TemplateError):
        render("{{ 'x' * 10**9 }}", CONTEXT, where="w")
    assert render("{{ 'x' * 1000 }}", CONTEXT, where="w") == "x" * 1000


def test_rendering_a_plain_path_takes_a_few_microseconds() -> None:
    context = {"inputs": {}, "outputs": {"a": {"x": 1}}, "session": {}}
    render("{{ outputs.a.x }}", context, where="w")
    best = min(_timed(context) for _ in range(5))
    assert best < 20e-6  # 1.3 measured; the bound is for slow machines


def _timed(context: dict[str, Any]) -> float:
    began = time.process_time()
    for _ in range(1000):
        render("{{ outputs.a.x }}", context, where="w")
    return (time.process_time() - began) / 1000
