"""The two ways to run the same steps, with one face."""

from __future__ import annotations

import time
from datetime import UTC
from typing import Any

from measure import settings, workload

LONGEST = 300.0
WARM_STEPS = 30


class Chains:
    """Bare Celery."""

    def __init__(self, steps: int) -> None:
        from measure import bare

        self._steps, self._submit = steps, bare.submit

    def submit(self, number: int) -> Any:
        return self._submit(number, self._steps)

    def wait(self, result: Any) -> None:
        assert result.get(timeout=LONGEST)["n"] == self._steps

    def end(self, result: Any) -> float:
        """When it was done, by the worker's clock."""
        return _epoch(result.date_done)

    def step_ends(self, result: Any) -> list[float]:
        found = []
        while result is not None:
            found.append(_epoch(result.date_done))
            result = result.parent
        return found[::-1]


class Sessions:
    """As sessions of a cascade."""

    def __init__(self, steps: int) -> None:
        from measure.durable import cascades

        self._steps, self._cascades = steps, cascades
        self._file = workload.cascade_file(settings.folder(), steps)

    def submit(self, number: int) -> Any:
        return self._cascades.start(self._file, {"given": workload.payload(number)})

    def wait(self, session: Any) -> None:
        assert session.result(timeout=LONGEST)["n"] == self._steps

    def here(self, number: int) -> None:
        """Run one in this process."""
        self.wait(self._cascades.run(self._file, {"given": workload.payload(number)}))

    def warm_up(self) -> None:
        """Every child has read this cascade: that comes once, however many steps or sessions there are."""
        session = self.submit(0)
        while self.done(session) < WARM_STEPS:
            time.sleep(0.02)
        session.cancel()
        session.wait(LONGEST)

    def done(self, session: Any) -> int:
        """How many of its steps are."""
        return int(self._cascades.runtime.store.head(session.id)["current_step"])

    def end(self, session: Any) -> float:
        """When it was done, by the database's clock."""
        return _epoch(self._cascades.runtime.store.head(session.id)["finished_at"])

    def step_ends(self, session: Any) -> list[float]:
        return sorted(_epoch(row["finished_at"]) for row in self._cascades.runtime.store.steps(session.id))


Work = Chains | Sessions


def _epoch(moment: Any) -> float:
    seconds: float = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return seconds
