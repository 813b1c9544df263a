"""Faults that other systems had about who owns a step, its end and its session; the docstrings name whose they were."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from celery_cascade.errors import ClaimLost, SessionNotFound
from celery_cascade.persistence import tables
from celery_cascade.persistence.prune_rules import Rules
from celery_cascade.persistence.rows import StepKey, WorkerRow
from celery_cascade.states import Halt
from contract.kit import Kit as StoreKit
from contract.kit import joins, new_session, queued, worker_row
from contract.test_races import at_once
from sessions.kit import Kit

EVERYTHING = Rules(ages={"completed": timedelta(0), "failed": timedelta(0)}, keep_last=0)


def same_name(worker_id: str) -> WorkerRow:
    """Incarnations of one node: a stable name, as deployments give them."""
    return WorkerRow(id=worker_id, nodename="celery@node1", host="node1", pid=7)


def test_a_draining_worker_of_the_same_name_cannot_claim_what_recovery_has_just_released(kit: StoreKit) -> None:
    """dbos-transact-py#804: it still holds the message of the attempt that was taken from it."""
    kit.store.add_worker(same_name("draining"))
    kit.store.add_worker(same_name("fresh"))
    session = kit.start()
    key = StepKey(session, "a")
    late = kit.claim(session, worker="draining")
    assert kit.store.release(kit.orphan(session), error=None)
    again = partial(kit.store.claim, key, token="d", worker="draining", runner="r")
    assert again(attempt=1) is None
    with pytest.raises(ClaimLost):
        kit.end(late)
    assert kit.row(session)["status"] == "queued"
    new = kit.claim(session, worker="fresh")
    assert again(attempt=2) is None
    assert kit.store.running_on("draining") == []
    assert kit.end(new).open_steps == 0


def test_a_step_that_a_dying_worker_claims_after_its_goodbye_is_found_at_once(kit: StoreKit) -> None:
    """dbos-transact-py#804: should it claim the released attempt after all, its new twin's heartbeat hides nothing."""
    kit.store.add_worker(same_name("draining"))
    kit.store.stop_worker("draining")
    kit.store.add_worker(same_name("fresh"))
    session = kit.start()
    kit.claim(session, worker="draining")
    kit.store.beat("fresh")
    (orphan,) = kit.store.orphans(silent_for=None)
    assert kit.store.release(orphan, error=None, silent_for=15)


def test_a_heartbeat_of_a_zombie_extends_no_claim_of_the_new_owner(kit: StoreKit) -> None:
    """A stable worker name is no fence: the zombie beats on while its successor of the same name is dead."""
    kit.store.add_worker(same_name("zombie"))
    kit.store.add_worker(same_name("owner"))
    session = kit.start()
    kit.claim(session, worker="owner")
    for _ in range(4):
        kit.clock.forward(5)
        assert kit.store.beat("zombie")
    (orphan,) = kit.store.orphans(silent_for=15)
    assert orphan.worker == "owner"
    assert kit.store.release(orphan, error=None, silent_for=15)
    late = kit.claim(session, worker="zombie")
    kit.clock.forward(20)
    kit.store.beat("owner")  # and the other way round
    (orphan,) = kit.store.orphans(silent_for=15)
    assert (orphan.worker, orphan.token) == ("zombie", late.token)


def test_a_refused_late_writer_is_counted(any_kit: Kit) -> None:
    """Whoever looks for such faults in production needs to see them: `fenced_at` of the attempt that was taken away."""
    kit = any_kit

    @kit.task("zombie")
    def zombie() -> None:
        if len(kit.ran) == 1:
            kit.sql("UPDATE session_steps SET worker = 'gone' WHERE status = 'running'")
            kit.recover()

    session = kit.start({"id": "a", "task": "zombie"})
    kit.deliver()
    assert session.status == "completed"
    (row,) = kit.store.attempts(session.id)
    assert (row["kind"], row["attempt"]) == ("crash", 1)
    assert row["fenced_at"] is not None
    assert row["version"] == 1
    kit.store.delete_session(session.id)


def test_the_last_two_members_of_a_join_that_finish_at_the_same_instant_run_it_once(kit: StoreKit) -> None:
    """Under READ COMMITTED two that each look whether the other is done hang the join for ever."""
    for _ in range(25):
        session = kit.start([*queued("a", "b"), *joins(j=2)], total=3)
        one, other = kit.claim(session, "a"), kit.claim(session, "b")
        moved = at_once(partial(kit.end, one, arrivals={"j": 1}), partial(kit.end, other, arrivals={"j": 1}))
        assert sorted(one.ready for one in moved) == [(), ("j",)]
        assert sorted(one.version for one in moved) == [2, 3]
        assert (kit.row(session, "j")["status"], kit.row(session, "j")["needs_left"]) == ("queued", 0)
        assert kit.run(session, "j").open_steps == 0
        kit.check(session)


def test_a_join_member_that_finishes_twice_arrives_once(kit: StoreKit) -> None:
    """The same worker again, for its answer was lost; and a zombie beside the new owner, in either order."""
    for first in ("owner", "zombie"):
        session = kit.start([*queued("a", "b"), *joins(j=2)], total=3)
        late = kit.claim(session, "a")
        kit.store.release(kit.orphan(session, "a"), error=None)
        owner = kit.claim(session, "a")
        writers = [owner, late] if first == "owner" else [late, owner]
        for writer in writers:
            if writer is late:
                with pytest.raises(ClaimLost):
                    kit.end(late, arrivals={"j": 1})
            else:
                assert kit.end(owner, arrivals={"j": 1}).ready == ()
        assert kit.end(owner, arrivals={"j": 1}).ready == (), "told once more that it is done"
        assert (kit.row(session, "j")["status"], kit.row(session, "j")["needs_left"]) == ("pending", 1)
        assert kit.head(session)["version"] == 2
        assert kit.run(session, "b", arrivals={"j": 1}).ready == ("j",)
        kit.check(session)


def test_two_that_finish_one_join_member_at_the_same_instant_arrive_once(kit: StoreKit) -> None:
    """A zombie and the new owner, on two connections."""
    for _ in range(15):
        session = kit.start([*queued("a", "b"), *joins(j=2)], total=3)
        late = kit.claim(session, "a")
        kit.store.release(kit.orphan(session, "a"), error=None)
        owner = kit.claim(session, "a")
        found = at_once(*(partial(kit.end, writer, arrivals={"j": 1}) for writer in (late, owner)))
        assert isinstance(found[0], ClaimLost)
        assert found[1].version == 2
        assert kit.row(session, "j")["needs_left"] == 1
        kit.check(session)


def test_a_cancel_that_races_with_the_last_checkpoint_leaves_one_end(kit: StoreKit) -> None:
    """The session is cancelled or completed, never neither, and the step that ended keeps its output."""
    for _ in range(25):
        session = kit.start()
        claimed = kit.claim(session)

        def finish(claimed: Any = claimed, session: str = session) -> Any:
            kit.end(claimed)
            return kit.store.settle(session, output='"out"')

        def cancel(session: str = session) -> Any:
            kit.store.halt(session, Halt.CANCELLED, "enough")
            return kit.store.settle(session)

        told = at_once(finish, cancel)
        last = kit.store.settle(session, output='"out"')  # what the next look of a recovery does
        ends = [str(one) for one in (*told, last) if one is not None]
        assert ends in (["completed"], ["cancelled"]), told
        head = kit.head(session)
        assert (head["status"], head["halt"], head["open_steps"]) == (ends[0], None, 0)
        assert head["finished_at"] is not None
        assert (kit.row(session)["status"], kit.row(session)["output"]) == ("succeeded", '"done"')
        assert kit.store.unsettled() == []
        kit.check(session)


# -- a session is pruned while somebody needs it. A fork that copies one does not exist yet; what reads and refers to a
# -- session today has to hold already: a child that starts, a resume, a reader.
def test_a_session_that_is_pruned_while_a_child_of_it_starts_leaves_the_child_whole(kit: StoreKit) -> None:
    """D9: the tree goes whole or not at all; a child that was a moment late stands for itself."""
    outcomes = set()
    for number in range(12):
        parent = kit.start(session_id=f"parent{number}")
        kit.run(parent)
        kit.complete(parent)
        kit.clock.forward(1)
        pruning = kit.store.pruning(EVERYTHING, batch=9)
        (trees,) = pruning.batches()
        child = new_session(f"child{number}", total=2, parent_session_id=parent, root_session_id=parent, depth=1)
        gone, started = at_once(partial(pruning.delete, trees), partial(kit.store.start, child, queued("a")))
        assert started is True, started
        parent_is_there = parent in kit.column(tables.heads.c.session_id)
        assert parent_is_there is (not gone), gone
        outcomes.add(parent_is_there)
        assert kit.store.definition(kit.store.session(child.session_id)["definition_digest"])["body"]
        kit.run(child.session_id, "a", "b")
        kit.run(child.session_id, "b")
        kit.complete(child.session_id)
        kit.clock.forward(1)
        for trees in kit.store.pruning(EVERYTHING, batch=9).batches():
            pruning.delete(trees)
        assert kit.column(tables.sessions.c.session_id) == [], "and is pruned in its turn, its parent gone or not"
        assert kit.column(tables.steps.c.session_id) == []
    assert outcomes


def test_a_child_that_started_since_the_look_keeps_its_whole_tree(kit: StoreKit) -> None:
    """D9: what was read before is looked at again under the lock, or the child would lose what it comes from."""
    parent = kit.start()
    kit.run(parent)
    kit.complete(parent)
    kit.clock.forward(1)
    pruning = kit.store.pruning(EVERYTHING, batch=9)
    (trees,) = pruning.batches()
    child = new_session("child", parent_session_id=parent, root_session_id=parent, depth=1)
    kit.store.start(child, queued("a"))
    assert pruning.delete(trees) == []
    assert set(kit.column(tables.sessions.c.session_id)) == {parent, "child"}
    assert kit.statuses(parent) == {"a": "succeeded"}


def test_a_session_that_is_pruned_while_it_is_resumed_is_either_gone_or_goes_on(kit: StoreKit) -> None:
    """D9, D10: never a head without its steps, nor a queued step without its head."""
    for _ in range(15):
        session = kit.start([*queued("a"), *joins(j=1)], total=2)
        kit.fail(kit.claim(session))
        kit.store.settle(session)
        kit.clock.forward(1)
        pruning = kit.store.pruning(EVERYTHING, batch=9)
        (trees,) = pruning.batches()
        gone, revived = at_once(partial(pruning.delete, trees), partial(kit.store.revive, session))
        if gone:
            assert isinstance(revived, SessionNotFound), revived
            assert kit.column(tables.steps.c.session_id) == []
            assert kit.store.take_due(worker="w", first=60) == []
        else:
            assert [step.key for step in revived[1]] == [StepKey(session, "a")]
            assert kit.run(session, arrivals={"j": 1}).ready == ("j",)
            kit.check(session)
            kit.store.delete_session(session)


@pytest.mark.parametrize("look", ["session", "plan", "steps", "now", "actions"])
def test_a_session_that_is_pruned_while_somebody_reads_it_is_whole_or_not_there(any_kit: Kit, look: str) -> None:
    """What copies a session reads it first: half a session must not look like a whole one."""
    kit = any_kit
    session = kit.run("a", "b")
    expected = session.to_dict()
    pruned: list[str] = []
    where: Any = kit.runtime if look == "plan" else kit.store
    original: Callable[..., Any] = getattr(where, look)

    def prune_first(*args: Any) -> Any:
        if not pruned:
            pruned.append(look)
            kit.store.delete_session(session.id)
        return original(*args)

    setattr(where, look, prune_first)
    try:
        try:
            found = session.to_dict()
        except SessionNotFound:
            found = None
    finally:
        delattr(where, look)
    assert pruned
    assert found in (None, expected)
    assert (found is None) == (look in ("session", "plan", "steps"))


def test_what_a_dead_worker_ran_is_told_from_what_a_living_twin_runs(kit: StoreKit) -> None:
    """A stable name again: the audit of one incarnation sees its own rows only."""
    for worker_id in ("old", "new"):
        kit.store.add_worker(same_name(worker_id))
    kit.store.add_worker(worker_row("other"))
    session = kit.start(queued("a", "b"))
    kit.claim(session, "a", worker="old")
    kit.claim(session, "b", worker="new")
    assert [orphan.key.step for orphan in kit.store.running_on("new")] == ["b"]
    kit.store.stop_worker("old")
    assert [orphan.key.step for orphan in kit.store.orphans(silent_for=None)] == ["a"]
