"""Definitions like those that people publish: 1 to 10 steps, comments, block scalars, Jinja in the inputs."""

import json
from typing import Any

import pytest

from celery_cascade.definition import Cascade, Source, check_inputs, from_bytes, make_plan, read_with_warnings, render

ETL = b"""\
# Nightly: orders of one day, cleaned and loaded.
cascade: orders-etl
description: >
  Reads the day's orders,
  cleans them and loads them.

inputs:
  path: string                     # where the dump is
  day: {type: string, pattern: '^\\d{4}-\\d\\d-\\d\\d$'}
  limit: {type: integer, minimum: 1, default: 1000}

defaults:
  timeout: 10m
  retry: &retry {max_attempts: 3, backoff: exponential, delay: 2s}

steps:
  - id: load
    task: etl.query
    phase: Loading
    with:
      sql: |
        -- {one} statement; braces and 100 % signs are text
        SELECT id, total
        FROM   orders
        WHERE  day = :day AND note <> '{}'
      params: {day: "{{ inputs.day }}", limit: "{{ inputs.limit }}"}
      source: "{{ inputs.path }}"

  - id: clean
    task: etl.python
    retry: {<<: *retry, errors: [ConnectionError, etl.errors.Busy]}
    with:
      code: |
        def run(rows):
            return {row["id"]: row for row in rows}
      rows: "{{ outputs.load.rows }}"

  - id: report
    needs: [load]
    task: etl.report
    queue: slow
    with: ["{{ inputs.day }}: {{ outputs.load.rows | length }} rows"]

  - id: notify
    needs: [clean, report]
    when: "{{ outputs.load.rows | length > 0 }}"
    task: mail.send
    with: {to: ops@example.com, body: "{{ outputs.report.text | truncate(200) }}"}

output:
  rows: "{{ outputs.clean.count }}"
  sent: "{{ outputs.notify is not none }}\""""  # without a final newline


def read(source: Source) -> Cascade:
    cascade, warnings = read_with_warnings(source)
    assert warnings == []
    return cascade


def test_a_linear_etl_with_block_scalars_reads_and_renders() -> None:
    cascade = read(from_bytes(ETL))
    assert cascade.description == "Reads the day's orders, cleans them and loads them.\n"
    assert [one.timeout for one in cascade.steps] == [600] * 4
    assert cascade.steps[1].retry.errors == ("ConnectionError", "etl.errors.Busy")
    assert cascade.steps[1].retry.max_attempts == 3
    plan = make_plan(cascade)
    assert (plan.roots, plan.joins, plan.leaves) == (("load",), ("notify",), ("notify",))
    inputs = check_inputs(cascade, {"path": "/tmp/x", "day": "2026-01-01"})
    context: dict[str, Any] = {"inputs": inputs, "outputs": {}, "session": {"id": "s"}}
    load = render(cascade.steps[0].arguments, context, where="steps.load.with")
    assert load["params"] == {"day": "2026-01-01", "limit": 1000}
    assert load["sql"].splitlines()[0] == "-- {one} statement; braces and 100 % signs are text"
    context["outputs"] = {"load": {"rows": [1, 2]}, "clean": {"count": 2}, "report": {"text": "2"}, "notify": None}
    assert render(cascade.steps[2].arguments, context, where="w") == ["2026-01-01: 2 rows"]
    assert render(cascade.steps[3].when, context, where="w") is True
    assert render(cascade.output, context, where="output") == {"rows": 2, "sent": False}


def test_the_same_definition_in_json_and_with_crlf_reads_the_same() -> None:
    cascade = read(from_bytes(ETL))
    assert read(from_bytes(ETL.replace(b"\n", b"\r\n"))) == cascade
    assert read(from_bytes(b"\xef\xbb\xbf" + ETL)) == cascade


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_ten_steps_in_json_read(indent: Any) -> None:
    steps: list[dict[str, Any]] = [{"id": "s0", "task": "a.b", "with": {"x": "{{ inputs.x }}"}}]
    for number in range(1, 10):
        steps.append(
            {"id": f"s{number}", "task": "a.b", "with": {"x": f"{{{{ outputs.s{number - 1}.x }}}}", "n": [1.5, None]}}
        )
    text = json.dumps({"cascade": "ten", "inputs": {"x": {"type": "string"}}, "steps": steps}, indent=indent)
    cascade = read(from_bytes(text.encode(), source_format="json"))
    assert [one.id for one in cascade.steps] == [f"s{number}" for number in range(10)]
    assert read(from_bytes(text.encode())) == cascade if indent != "\t" else True
    assert len(make_plan(cascade).ancestors["s9"]) == 9
