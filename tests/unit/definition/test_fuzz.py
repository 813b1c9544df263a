"""Whatever is in a file, reading it gives a cascade or a `DefinitionError`, soon."""

import contextlib
import json
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_cascade.definition import Cascade, from_bytes, from_mapping, read_cascade
from celery_cascade.errors import DefinitionError

GOOD = b"""cascade: order
inputs: {n: integer, email: {type: string, default: ""}}
defaults: {retry: {max_attempts: 3}, timeout: 5m}
steps:
  - id: charge
    task: shop.charge
    with: {order_id: "{{ inputs.n }}"}
    retry: {max_attempts: 5, backoff: linear, delay: 2s, errors: [OSError]}
  - &l {id: label, needs: [charge], task: t, when: "{{ outputs.charge.ok and inputs.n > 3 }}"}
output: "{{ outputs.label | default(none) }}"
"""
alphabet = st.sampled_from(
    [
        *(b"cascade: ", b"steps:", b"\n", b"  ", b"- ", b"id: ", b"task: ", b"with: ", b"{{ ", b" }}", b"inputs"),
        *(
            b"outputs",
            b"needs: ",
            b"&a ",
            b"*a",
            b"<<: ",
            b"!!",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b": ",
            b"\t",
            b"'",
            b'"',
        ),
        *(b"|\n", b">", b"#", b"no", b"22:30", b"010", b"a", b"b", b".", b"\xef\xbb\xbf", b"\r\n", b"\xff", b"\x00"),
        *(b"---\n", b"...\n", b"%", b"?", b"when: ", b"retry: ", b"timeout: ", b"1", b"-1", b"1e5", b".nan"),
        *(b"x" * 300, b"\xc2\x85", b"\xe2\x80\xa8", b"\\"),
    ]
)
FORMATS: tuple[Literal["yaml", "json"], ...] = ("yaml", "json")


def reads_or_refuses(body: bytes) -> None:
    for name in FORMATS:
        with contextlib.suppress(DefinitionError):
            assert isinstance(read_cascade(from_bytes(body, source_format=name)), Cascade)


@given(st.binary(max_size=300))
def test_random_bytes_give_a_cascade_or_a_definition_error(body: bytes) -> None:
    """R3, R147."""
    reads_or_refuses(body)


@settings(max_examples=300)
@given(st.lists(alphabet, max_size=40).map(b"".join))
def test_random_pieces_of_yaml_give_a_cascade_or_a_definition_error(body: bytes) -> None:
    """R3, R147."""
    reads_or_refuses(body)


@settings(max_examples=300)
@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.lists(alphabet, max_size=3).map(b"".join))
def test_a_good_file_with_a_piece_changed_gives_a_cascade_or_a_definition_error(at: int, cut: int, put: bytes) -> None:
    reads_or_refuses(GOOD[:at] + put + GOOD[at + cut :])


WORDS = """cascade steps id task with needs when retry timeout queue priority phase inputs output defaults type default
    max_attempts delay errors description enum properties items pattern minimum required"""
keys = st.sampled_from(WORDS.split())
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(
    ["a", "b", "", "5m", "string", "{{ outputs.a }}", "{{ inputs.n }}", "{{", "exponential", "(", "*", "x" * 60]
)  # fmt: skip
structures = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=15
)


@settings(max_examples=300)
@given(structures, structures, structures, structures)
def test_random_structures_give_a_cascade_or_a_definition_error(a: Any, b: Any, c: Any, d: Any) -> None:
    mapping = {"cascade": "x", "steps": [{"id": "a", "task": "t", "with": a}, b], "inputs": c, "defaults": d}
    reads_or_refuses(json.dumps(mapping).encode())
    with contextlib.suppress(DefinitionError):
        assert isinstance(read_cascade(from_mapping(mapping)), Cascade)
