"""What the hot path costs: statements, commits, bytes, and nothing compiled twice (DESIGN 10)."""

from __future__ import annotations

from celery_cascade.persistence.rows import ClaimedStep
from celery_cascade.states import Halt
from contract.kit import Kit, joins, queued
from contract.traffic import Traffic, watched

#: (statements, commits): most that each may cost.
LIMITS = {
    "sqlite": {"claim": (1, 1), "checkpoint": (4, 1), "join": (4, 1), "beat": (1, 1)},
    "postgresql": {"claim": (1, 1), "checkpoint": (1, 1), "join": (1, 1), "beat": (1, 1)},
    "mysql": {"claim": (2, 1), "checkpoint": (4, 1), "join": (4, 1), "beat": (1, 1)},
}


def claimed(kit: Kit, session: str, step: str) -> tuple[ClaimedStep, Traffic]:
    attempt = kit.row(session, step)["attempt"]
    key = kit.store.queued_steps(session)[0].key
    with watched() as traffic:
        found = kit.store.claim(key, attempt=attempt, token=f"t-{step}", worker="w1", runner="r")
    assert found is not None
    return found, traffic


def test_a_claim_and_a_checkpoint_cost_what_the_design_says(kit: Kit) -> None:
    """DESIGN 10: one statement and one commit each on PostgreSQL."""
    limits = LIMITS[kit.database.family]
    session = kit.start(total=3)
    found, claim = claimed(kit, session, "a")
    with watched() as checkpoint:
        kit.end(found, "b")
    with watched() as last:
        kit.end(kit.claim(session, "b"))

    measured = {"claim": claim.cost, "checkpoint": checkpoint.cost}
    for name, cost in measured.items():
        print(kit.database.family, name, "statements, commits:", cost)
        assert cost[0] <= limits[name][0], (name, cost, checkpoint.statements)
        assert cost[1] == limits[name][1], (name, cost)
    assert last.cost[0] >= 1


def test_an_arrival_at_a_join_costs_no_more_than_a_successor(kit: Kit) -> None:
    """Rule 5: a counter, never a count."""
    session = kit.start([*queued("a", "b"), *joins(j=2)])
    for step in ("a", "b"):
        found = kit.claim(session, step)
        with watched() as traffic:
            kit.end(found, arrivals={"j": 1})
        statements, commits = LIMITS[kit.database.family]["join"]
        assert traffic.cost[0] <= statements
        assert traffic.cost[1] == commits


def test_a_duplicate_message_costs_one_statement_and_changes_nothing(kit: Kit) -> None:
    session = kit.start()
    found = kit.claim(session)
    with watched() as traffic:
        assert kit.store.claim(found.key, attempt=1, token="t2", worker="w2", runner="r") is None
    assert len(traffic.statements) == 1


def test_a_heartbeat_is_one_statement(kit: Kit) -> None:
    """STYLE 4: the cost does not grow with the steps that run."""
    with watched() as traffic:
        kit.store.beat("w1")
    assert traffic.cost == LIMITS[kit.database.family]["beat"]


def test_sweeps_with_nothing_to_do_write_nothing(kit: Kit) -> None:
    """DESIGN 4: read first, write only when due."""
    kit.start()
    kit.store.begin_sweep("timers", 60)
    with watched() as traffic:
        kit.store.begin_sweep("timers", 60)
        kit.store.take_due(worker="w1", first=60)
        kit.store.orphans(silent_for=15)
        kit.store.overdue()
        kit.store.unsettled()
        kit.store.past_expiry()
        kit.store.running_workers()
        kit.store.wake_queued_by([])
    assert (len(traffic.statements), traffic.commits) == (7, 0)


def test_step_1000_costs_what_step_10_costs(kit: Kit) -> None:
    """DESIGN 3: nothing is rewritten whole at each step."""
    session = kit.start(queued("s0010"), total=2000)

    def cost(step: str, follower: str) -> tuple[tuple[int, int], int]:
        found, claim = claimed(kit, session, step)
        with watched() as checkpoint:
            kit.end(found, follower, output='"' + "x" * 200 + '"')
        both = (claim.cost[0] + checkpoint.cost[0], claim.cost[1] + checkpoint.cost[1])
        return both, claim.size + checkpoint.size

    cost("s0010", "s0011")  # the first of its kind
    early = cost("s0011", "s0012")
    kit.run(session, "s0012", "s1000", skips=[f"s{number:04}" for number in range(13, 1000)])
    late = cost("s1000", "s1001")

    assert late[0] == early[0]
    assert abs(late[1] - early[1]) <= 20, "a digit more here and there"


def test_the_hot_path_compiles_nothing_twice(kit: Kit) -> None:
    """DESIGN 10: Core with cached statements."""

    def all_of_it() -> None:
        session = kit.start([*queued("a", "x"), *joins(j=2)], total=7)
        kit.run(session, "a", "b", arrivals={"j": 1}, skips=["s"])
        kit.run(session, "x", arrivals={"j": 1})
        kit.end(kit.claim(session, "j", timeout=9), "c", "d")
        kit.fail(kit.claim(session, "b"), 0.0)
        kit.fail(kit.claim(session, "b"), 5.0)
        kit.claim(session, "c")
        kit.store.orphans(silent_for=15)
        kit.store.release(kit.orphan(session, "c"), error=None)
        kit.clock.forward(120)
        kit.store.take_due(worker="w", first=60.0)
        kit.store.beat("w")
        kit.store.begin_sweep("timers", 1.0)
        kit.store.begin_sweep("timers", 1.0)
        kit.fail(kit.claim(session, "b"))
        kit.store.settle(session)
        kit.store.revive(session)
        kit.store.halt(session, Halt.CANCELLED, None)
        kit.store.settle(session)

    all_of_it()
    all_of_it()
    with watched() as traffic:
        all_of_it()
    assert traffic.compiled_anew == []
    assert len(traffic.statements) > 40
