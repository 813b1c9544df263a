"""Random command lines and random calls: an error of ours or a result, never a traceback, nothing half-started."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_cascade.cli import cascade
from celery_cascade.cli.group import VERBS
from celery_cascade.errors import CascadeError
from cli.kit import Project

#: They take a terminal, or a place on disk, by storm.
LEFT_OUT = {"demo", "init", "watch"}
CODES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 69, 124}
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
step = st.dictionaries(
    st.sampled_from(["id", "task", "with", "needs", "when", "retry", "timeout", "queue", "priority", "phase", "map"]),
    plain | st.sampled_from(["a", "b", "shop.add", "shop.echo", "{{ inputs.n }}", "{{ outputs.a }}", "5s"]),
    max_size=6,
)
definition = st.fixed_dictionaries(
    {"cascade": st.sampled_from(["c", "", None, 7]), "steps": st.lists(step | plain, max_size=3) | plain},
    optional={"inputs": plain, "output": plain, "defaults": plain},
)
option = st.sampled_from(
    [
        "session_id",
        "name",
        "mode",
        "tags",
        "thread_id",
        "resource_id",
        "idempotency_key",
        "expires_in",
        "expires_at",
        "queue",
        "colour",
    ]
)


@pytest.fixture
def store_of(project: Project) -> Callable[[], dict[str, int]]:
    def count() -> dict[str, int]:
        tables = ("cascade_sessions", "session_states", "session_steps", "cascade_definitions")
        with project.runtime.store.database.read() as conn:
            return {t: conn.exec_driver_sql(f"SELECT count(*) FROM {t}").scalar() or 0 for t in tables}

    return count


def test_random_starts_are_refused_whole_or_started_whole(project: Project, store_of: Any) -> None:
    """R3, R150."""

    @QUICK
    @given(target=definition | plain, inputs=plain | st.none(), options=st.dictionaries(option, plain, max_size=2))
    def check(target: Any, inputs: Any, options: Any) -> None:
        before = store_of()
        try:
            session = project.cascades.start(target, inputs, **options)
        except CascadeError:
            assert store_of() == before
        except TypeError:
            assert "colour" in options  # Python's own, for an argument that there is not
        else:
            assert session.to_dict()["session_id"] == session.id

    check()


CALLS = ["sessions", "session", "last_session", "prune", "register", "run", "cleanup_old_sessions"]


def test_random_calls_of_the_api_are_answered_or_refused_in_words(project: Project) -> None:
    """R150."""

    @QUICK
    @given(name=st.sampled_from(CALLS), args=st.lists(plain, max_size=1))
    def check(name: str, args: Any) -> None:
        try:
            found = getattr(project.cascades, name)(*args)
            if name == "sessions":
                list(found)
        except CascadeError:
            pass
        except TypeError:
            assert name in ("sessions", "prune") or (not args and name != "cleanup_old_sessions"), (name, args)

    check()


def words_of(verb: str) -> list[str]:
    ctx = click.Context(cascade)
    command = cascade.get_command(ctx, verb)
    assert command is not None
    return [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]


ALL_OPTIONS = sorted(
    {word for verb in VERBS if verb not in LEFT_OUT for word in words_of(verb) if word.startswith("-")}
)


TRIED = [verb for verb in VERBS if verb not in LEFT_OUT]


def test_random_command_lines_end_with_a_known_code_and_no_traceback(project: Project, tmp_path: Path) -> None:
    """R150."""
    project.ended()
    value = st.text(alphabet=string.printable, max_size=6) | st.sampled_from(
        ["@last", "order.yaml", "1", "2d", "-", "x=1"]
    )
    words = st.lists(st.sampled_from(ALL_OPTIONS) | value, max_size=4)

    @QUICK
    @given(verb=st.sampled_from(TRIED), rest=words)
    def check(verb: str, rest: list[str]) -> None:
        if verb == "migrate" and "down" in rest:
            return
        extra = ["--detach"] if verb in ("run", "resume") else []
        result = project.run(verb, *extra, *rest, input="")
        assert result.exit_code in CODES, (verb, rest, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), (verb, rest, result.exception)
        assert "Traceback" not in result.output

    check()
