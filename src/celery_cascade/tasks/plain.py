"""A cascade without a store: its steps run one after the other inside one plain task, and nothing is kept (R15).

Only for `cascade_store_required = False` while the store is missing. If the worker dies, so does the run.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from celery.exceptions import Ignore

from celery_cascade.definition.cascade import Source
from celery_cascade.definition.plan import Plan
from celery_cascade.engine.advance import advance, prepare, session_output
from celery_cascade.engine.decision import Call, Ended, Event, Facts, Fail, Queue, Skip, Started
from celery_cascade.engine.retry import after_failure, error_names
from celery_cascade.persistence import codec
from celery_cascade.tasks.calls import encoded, encoded_call
from celery_cascade.tasks.runtime import Runtime


def run_plain(runtime: Runtime, session_id: str, source: Source, input_text: str) -> Any:
    """Run all steps here and return the session's output.

    Retries are those of the step; its `timeout`, its queue and parallel branches are not to be had.

    Raises:
        Exception: whatever the step that failed has raised.
    """
    return _Walk(runtime, session_id, runtime.plan_of(source), codec.decode(input_text)).run()


class _Walk:
    def __init__(self, runtime: Runtime, session_id: str, plan: Plan, inputs: dict[str, Any]) -> None:
        self._runtime, self._plan = runtime, plan
        self._outputs: dict[str, Any] = {}
        self._skipped: set[str] = set()
        self._facts = Facts(session_id=session_id, inputs=inputs, outputs=self._outputs)
        self._left = {join: len(plan.steps[join].needs) for join in plan.joins}
        self._ready: deque[Queue] = deque()

    def run(self) -> Any:
        self._on(Started())
        while self._ready:
            queued = self._ready.popleft()
            try:
                output = self._call(queued.step, queued.call)
            except Ignore:
                self._skip(queued.step)
                self._on(Ended(queued.step, None, skipped=True))
            else:
                self._on(Ended(queued.step, output))
        return session_output(self._plan, self._facts)

    def _on(self, event: Event) -> None:
        decision = advance(self._plan, self._facts, event)
        if isinstance(event, Ended):
            self._outputs[event.step] = event.output
        outcomes: list[Queue | Skip | Fail] = [*decision.fail, *decision.skip, *decision.queue]
        for outcome in outcomes:
            self._take(outcome)
        for join, arrivals in decision.arrive.items():
            self._left[join] -= arrivals
        self._join()

    def _join(self) -> None:
        """Joins that nothing is missing for any more."""
        for join in [join for join, left in self._left.items() if left == 0]:
            del self._left[join]
            outcome = prepare(self._plan, join, self._facts, self._skipped)
            self._take(outcome)
            if isinstance(outcome, Skip):
                self._on(Ended(join, None, skipped=True))

    def _take(self, outcome: Queue | Skip | Fail) -> None:
        if isinstance(outcome, Fail):
            raise outcome.error
        if isinstance(outcome, Skip):
            self._skip(outcome.step)
        else:
            self._ready.append(outcome)

    def _skip(self, step: str) -> None:
        self._skipped.add(step)
        self._outputs[step] = None

    def _call(self, step_id: str, call: Call) -> Any:
        """One step with its retries; values pass through JSON, as they do in a durable session."""
        step = self._plan.steps[step_id]
        task = self._runtime.tasks[step.task]
        given = codec.decode(encoded_call(self._runtime, step_id, call))
        failures = 0
        while True:
            done = task.apply(given["args"], given["kwargs"], throw=False)
            if not isinstance(done.result, BaseException):
                return codec.decode(encoded(self._runtime, done.result, f"output of step {step_id!r}"))
            failures += 1
            delay = None
            if not isinstance(done.result, Ignore):
                delay = after_failure(step.retry, failures, error_names(done.result))
            if delay is None:
                raise done.result
            time.sleep(delay)
