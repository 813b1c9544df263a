"""R22, R132: forks and reruns by the public API: what is kept, what runs, what is refused, and the origin untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import chain

from celery_cascade import Session
from celery_cascade.errors import (
    DefinitionError,
    DefinitionNotFound,
    InputError,
    SessionConflict,
    SessionNotFound,
    TemplateError,
    UsageError,
)
from sessions.kit import CHAIN, Kit, cascade

#: a and b beside each other, then their sum, then one more.
SUM = cascade(
    {"id": "a", "task": "add", "with": {"x": "{{ inputs.n }}"}},
    {"id": "b", "task": "add", "needs": [], "with": {"x": 10}},
    {"id": "both", "task": "add", "needs": ["a", "b"], "with": {"x": "{{ outputs.a }}", "y": "{{ outputs.b }}"}},
    {"id": "end", "task": "add", "with": {"x": "{{ outputs.both }}"}},
    inputs={"n": "integer", "word": {"type": "string", "default": "none"}},
)


def statuses(session: Session) -> dict[str, str]:
    return {step["step"]: step["status"] + (f" ({step['reason']})" if step["reason"] else "") for step in session.steps}


def done(kit: Kit, n: int = 1) -> Session:
    session = kit.cascades.run(SUM, {"n": n})
    kit.ran.clear()
    return session


def test_a_fork_at_a_step_runs_it_and_what_depends_on_it_and_nothing_else(any_kit: Kit) -> None:
    """R132: with the results of the others, on each of the databases."""
    origin = done(any_kit)
    before = origin.to_dict()

    fork = origin.fork(at="b")
    any_kit.deliver()

    assert any_kit.ran == ["b/1", "both/1", "end/1"]
    assert (fork.status, fork.output) == ("completed", origin.output)
    assert statuses(fork) == {"a": "succeeded (kept)", "b": "succeeded", "both": "succeeded", "end": "succeeded"}
    assert origin.to_dict() == before
    row = any_kit.store.session(fork.id)
    assert (row["forked_from"], row["forked_step"], row["trigger"]) == (origin.id, "b", "fork")


def test_a_fork_at_a_join_has_it_ready_at_once(kit: Kit) -> None:
    """R132."""
    fork = done(kit).fork(at="both")

    assert [step["status"] for step in fork.steps] == ["succeeded", "succeeded", "queued", "pending"]
    kit.deliver()
    assert kit.ran == ["both/1", "end/1"]
    assert fork.output == 14


def test_a_fork_with_other_inputs_replaces_those_and_keeps_the_rest(kit: Kit) -> None:
    """R132."""
    origin = kit.cascades.run(SUM, {"n": 1, "word": "told"})

    fork = origin.fork(at="a", inputs={"n": 100})
    kit.deliver()

    assert fork.inputs == {"n": 100, "word": "told"}
    assert (fork.output, origin.output) == (113, 14)


def test_a_fork_shows_what_it_has_kept_and_counts_it_as_done(kit: Kit) -> None:
    """R132, R66: checkpoints that another session has made are not the fork's."""
    fork = done(kit).fork(at="end")

    whole = fork.to_dict()
    assert (whole["progress"]["done"], whole["current_step"], whole["current_phase"]) == (3, 3, "both")
    assert whole["checkpoints"] == []
    kit.deliver()
    assert [one["step"] for one in fork.checkpoints] == ["end"]
    assert fork.to_dict()["completed_steps"][-1] == "end"


def test_a_fork_after_a_failure_keeps_what_has_ended_well(kit: Kit) -> None:
    """R132: from the last failure."""
    steps = ({"id": "a", "task": "add"}, {"id": "b", "task": "broken", "with": {"value": "{{ outputs.a }}"}}, "c")
    origin = kit.run(*steps)
    assert origin.status == "failed"
    kit.fix.add("fixed")
    kit.ran.clear()

    fork = origin.fork(from_failure=True)
    kit.deliver()

    assert kit.ran == ["b/1", "c/1"]
    assert (fork.status, origin.status) == ("completed", "failed")
    assert statuses(fork)["a"] == "succeeded (kept)"


def test_a_fork_without_a_step_runs_what_had_not_ended_while_the_origin_goes_on(kit: Kit) -> None:
    """R132: of an active session."""
    origin = kit.start("a", {"id": "b", "task": "add", "with": {"x": "{{ outputs.a }}"}})
    kit.receive(kit.messages()[0])

    fork = origin.fork()
    kit.deliver()

    assert kit.counts == {"a": 1, "b": 2}
    assert (fork.output, origin.output) == (2, 2)


def test_another_definition_runs_from_the_step_where_it_differs(kit: Kit) -> None:
    """D7, R132: what is kept although the definition says something else of it, is told."""
    origin = kit.cascades.run(kit.file(CHAIN), {"n": 1})
    kit.file(CHAIN.replace('"{{ outputs.a }}"', '"{{ outputs.a * 100 }}"'))

    planned = origin.plan_fork(at="b", definition="current")
    assert (planned.kept, planned.runs, planned.changed) == (("a",), ("b", "c"), ())
    told = origin.plan_fork(at="c", definition="current")
    assert (told.kept, told.changed) == (("a", "b"), ("b",))

    fork = origin.fork(at="b", definition="current")
    kit.deliver()
    assert (fork.output, origin.output) == (202, 4)
    assert fork.definition != origin.definition


def test_the_current_definition_runs_from_the_last_checkpoint(kit: Kit) -> None:
    """D7: `--use-current-definition`, in one step; the fork is what belongs to the file from then on."""
    path = kit.file(CHAIN.replace('task: add, with: {x: "{{ outputs.a }}"}', "task: broken"))
    origin = kit.cascades.run(path, {"n": 1})
    kit.file(CHAIN)
    kit.ran.clear()

    fork = origin.fork(definition="current")
    kit.deliver()

    assert kit.ran == ["b/1", "c/1"]
    assert fork.output == 4
    rows = [kit.store.session(one.id) for one in (origin, fork)]
    assert rows[0]["execution_key"] == rows[1]["execution_key"]
    assert rows[1]["config_path"] == path


def test_a_new_step_of_the_definition_runs_and_what_comes_after_it(kit: Kit) -> None:
    """R132."""
    origin = kit.run("a", {"id": "b", "task": "add", "needs": ["a"]})
    kit.ran.clear()

    fork = origin.fork(definition=cascade("a", {"id": "new", "task": "add"}, {"id": "b", "task": "add"}))
    kit.deliver()

    assert kit.ran == ["new/1", "b/1"]
    assert statuses(fork) == {"a": "succeeded (kept)", "new": "succeeded", "b": "succeeded"}


def test_a_dry_run_says_what_would_be_kept_and_run_and_writes_nothing(kit: Kit) -> None:
    """R132."""
    origin = done(kit)
    rows = kit.rows()

    found = origin.plan_fork(at="both", inputs={"n": 5}).to_dict()

    assert (found["kept"], found["runs"], found["changed"], found["skipped"]) == (["a", "b"], ["both", "end"], [], [])
    assert (found["forked_from"], found["forked_step"], found["inputs"]["n"]) == (origin.id, "both", 5)
    assert found["forked_version"] == 3
    assert kit.rows() == rows


def test_forks_of_forks_each_stand_for_themselves(kit: Kit) -> None:
    """R132."""
    origin = done(kit)
    first = origin.fork(at="b")
    kit.deliver()
    kit.ran.clear()

    second = first.fork(at="both")
    kit.deliver()

    assert kit.ran == ["both/1", "end/1"]
    assert second.output == first.output == origin.output
    assert kit.store.session(second.id)["forked_from"] == first.id
    origin.delete()
    assert second.output == 14


def test_a_fork_whose_steps_are_skipped_now_ends_at_once(kit: Kit) -> None:
    steps = ("a", {"id": "b", "task": "add", "needs": ["a"], "when": "{{ inputs.go }}"})
    origin = kit.cascades.run(cascade(*steps, inputs={"go": "boolean"}), {"go": True})

    fork = origin.fork(at="b", inputs={"go": False})

    assert statuses(fork) == {"a": "succeeded (kept)", "b": "skipped (when)"}
    assert fork.status == "completed"


def test_a_fork_in_an_eager_app_has_run_when_it_returns(make_kit: Any, sqlite_store: str) -> None:
    kit = make_kit(sqlite_store, task_always_eager=True)
    origin = done(kit)

    assert origin.fork(at="end").output == 14
    assert origin.rerun().status == "completed"
    assert kit.ran == ["end/1", "a/1", "b/1", "both/1", "end/1"]


def test_a_fork_records_who_made_it_and_why(kit: Kit) -> None:
    """R135."""
    origin = done(kit)

    (action,) = origin.fork(at="b", actor="ann", reason="what if").to_dict()["actions"]

    assert (action["action"], action["actor"], action["reason"], action["version"]) == ("fork", "ann", "what if", 1)
    assert action["detail"] == {"from": origin.id, "step": "b", "version": 2, "kept": 1}


# -- what is refused
def test_a_step_that_is_not_there_is_named_with_the_nearest(kit: Kit) -> None:
    with pytest.raises(UsageError, match="has no step 'bth'; did you mean 'both'"):
        done(kit).fork(at="bth")


def test_a_step_that_has_not_ended_is_refused_with_those_that_have(kit: Kit) -> None:
    origin = kit.start("a", {"id": "b", "task": "add", "needs": ["a"]}, {"id": "c", "task": "add", "needs": ["b"]})
    with pytest.raises(SessionConflict, match=r"step .b. is pending; .* and none has yet"):
        origin.fork(at="b")
    kit.receive(kit.messages()[0])

    for step, status in (("b", "queued"), ("c", "pending")):
        with pytest.raises(SessionConflict, match=rf"step '{step}' is {status}; a fork begins at .* ended: a\n"):
            origin.fork(at=step)


def test_a_fork_that_would_run_nothing_is_refused(kit: Kit) -> None:
    origin = done(kit)
    with pytest.raises(SessionConflict, match="nothing to run") as refused:
        origin.fork()
    assert f"cascade fork {origin.id} --at end" in refused.value.hint
    with pytest.raises(SessionConflict, match="no step of it has failed"):
        origin.fork(from_failure=True)


def test_bad_input_of_a_fork_writes_nothing(kit: Kit, tmp_path: Path) -> None:
    origin = done(kit)
    rows = kit.rows()
    wrong = cascade({"id": "a", "task": "nobody"})
    misread = cascade("a", {"id": "both", "task": "add", "needs": ["a"], "with": {"x": "{{ outputs.a.deep }}"}})
    calls: list[tuple[type[Exception], dict[str, Any]]] = [
        (InputError, {"at": "a", "inputs": {"n": "one"}}),
        (InputError, {"at": "a", "inputs": {"m": 1}}),
        (InputError, {"at": "a", "inputs": [1]}),
        (DefinitionError, {"at": "a", "definition": wrong}),
        (DefinitionNotFound, {"definition": str(tmp_path / "nowhere.yaml")}),
        (TemplateError, {"at": "both", "definition": misread}),
        (UsageError, {"at": "a", "definition": "current"}),
        (UsageError, {"at": 7}),
        (UsageError, {"at": "a", "from_failure": True}),
        (UsageError, {"at": "a", "context": [1]}),
        (UsageError, {"at": "a", "thread_id": ""}),
        (UsageError, {"at": "a", "tags": "word"}),
        (UsageError, {"at": "a", "session_id": "no id"}),
        (SessionConflict, {"at": "a", "session_id": origin.id}),
    ]
    for error, call in calls:
        with pytest.raises(error):
            origin.fork(**call)
    assert kit.rows() == rows
    with pytest.raises(SessionNotFound):
        Session(kit.runtime, "nobody").fork()
    with pytest.raises(SessionNotFound):
        Session(kit.runtime, "nobody").rerun()


# -- context
def test_the_context_of_a_fork_is_what_was_set_up_to_there_and_is_its_own(kit: Kit) -> None:
    """R132: with context_override."""
    origin = kit.start("a", {"id": "b", "task": "add", "needs": ["a"]})
    with origin.context as context:
        context.update(word="early", deep={"n": [1]})
    kit.deliver()

    fork = origin.fork(at="b", context={"word": "mine", "new": 1})

    assert fork.context == {"word": "mine", "deep": {"n": [1]}, "new": 1}
    fork.context["deep"]["n"].append(2)
    assert origin.context == {"word": "early", "deep": {"n": [1]}}
    assert fork.context["deep"] == {"n": [1, 2]}


# -- rerun
def test_a_rerun_has_the_same_bytes_and_inputs_although_the_file_is_gone(any_kit: Kit) -> None:
    """R22, on each of the databases."""
    kit = any_kit
    path = kit.file(CHAIN)
    origin = kit.cascades.run(path, {"n": 7}, name="mine", tags=["x"])
    Path(path).unlink()
    kit.ran.clear()

    again = origin.rerun(actor="ann")
    kit.deliver()

    assert kit.ran == ["a/1", "b/1", "c/1"]
    assert again.output == origin.output == 10
    old, new = kit.store.session(origin.id), kit.store.session(again.id)
    same = ("definition_digest", "input_data", "config_path", "execution_key", "cascade_id", "mode", "name", "tags")
    assert [new[name] for name in same] == [old[name] for name in same]
    assert (new["forked_from"], new["forked_step"], new["trigger"]) == (origin.id, None, "rerun")
    assert again.definition == CHAIN.encode()


def test_a_canvas_and_a_mapping_can_be_run_again(kit: Kit) -> None:
    """R22: also what no file was ever of."""
    add = kit.app.tasks["add"]
    for origin in (kit.cascades.start(chain(add.s(1, 2), add.s(3))), kit.cascades.start(SUM, {"n": 1})):
        kit.deliver()
        again = origin.rerun(session_id=f"again-{origin.id[:8]}")
        kit.deliver()
        old, new = kit.store.session(origin.id), kit.store.session(again.id)
        assert (new["input_data"], new["definition_digest"]) == (old["input_data"], old["definition_digest"])
        assert again.output == origin.output


def test_a_canvas_can_be_forked_at_a_task(kit: Kit) -> None:
    add = kit.app.tasks["add"]
    origin = kit.cascades.start(chain(add.s(1, 2), add.s(3)))
    kit.deliver()
    kit.ran.clear()

    fork = origin.fork(at="add_2")
    kit.deliver()

    assert kit.ran == ["add_2/1"]
    assert fork.output == 6
    with pytest.raises(UsageError, match="runs a canvas"):
        origin.fork(at="add", inputs={"add": 1})


def test_a_task_that_is_not_needed_any_more_need_not_be_there(kit: Kit) -> None:
    """R132: kept steps are results, not calls; a rerun needs them all."""
    kit.task("once")(lambda: 1)
    origin = kit.run({"id": "a", "task": "once"}, {"id": "b", "task": "add", "with": {"x": "{{ outputs.a }}"}})
    del kit.app.tasks["once"]

    fork = origin.fork(at="b")
    kit.deliver()

    assert fork.output == 2
    with pytest.raises(DefinitionError, match="once"):
        origin.rerun()
