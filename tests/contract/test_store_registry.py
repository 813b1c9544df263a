"""Sessions by the files that they were started from, on every database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from celery_cascade.persistence.views import SessionFilter
from celery_cascade.sessions.execution_key import execution_key
from contract.kit import Kit

ORDER, REFUND = execution_key(["/srv/order.yaml"]), execution_key(["/srv/refund.yaml"])


def found(kit: Kit, key: str, limit: int = 1) -> list[str]:
    return [row["session_id"] for row in kit.store.sessions(SessionFilter(execution_key=key, limit=limit))]


def test_the_newest_of_a_set_comes_first_and_sets_do_not_mix(kit: Kit) -> None:
    """R59, R65, R88."""
    made: dict[str, list[str]] = {ORDER: [], REFUND: []}
    for key in (ORDER, REFUND, ORDER, ORDER, REFUND):
        made[key].append(kit.start(execution_key=key))
        kit.clock.forward(1)
    kit.start()
    for key, ids in made.items():
        assert found(kit, key) == [ids[-1]]
        assert found(kit, key, 9) == ids[::-1]
    assert found(kit, execution_key(["/srv/order.yaml", "/srv/refund.yaml"])) == []


def test_a_hundred_runs_at_once_of_two_files_lose_none(kit: Kit) -> None:
    """R64: there is no file that the last writer would win."""

    def run(number: int) -> tuple[str, str]:
        key = (ORDER, REFUND)[number % 2]
        return key, kit.start(execution_key=key)

    with ThreadPoolExecutor(8) as threads:
        started = list(threads.map(run, range(100)))
    kit.clock.forward(1)
    last = {key: kit.start(execution_key=key) for key in (ORDER, REFUND)}
    for key in (ORDER, REFUND):
        assert set(found(kit, key, 200)) == {one for its, one in started if its == key} | {last[key]}
        assert found(kit, key) == [last[key]]
