"""Deliberate breaks of what keeps a session alive. Each must turn a test red; `scripts/mutate` tries them."""

from __future__ import annotations

from dataclasses import dataclass

CONTRACT, RACES = "tests/contract", "tests/contract/test_races.py"


@dataclass(frozen=True)
class Mutation:
    """One break.

    Args:
        name: what is broken, as a sentence.
        file: below src/celery_cascade.
        old: text that occurs there once.
        new: what takes its place.
        tests: what pytest is given; the first red test ends the try.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name without spaces, for the command line."""
        return self.name.replace(" ", "-").replace("'", "").replace(",", "")


MUTATIONS = (
    Mutation(
        "the checkpoint does not ask for the token",
        "persistence/checkpoint.py",
        '.where(THIS_STEP, steps.c.token == bindparam("b_token"), steps.c.status == "running")',
        '.where(THIS_STEP, steps.c.status == "running")',
        ("tests/contract/test_store_checkpoint.py", RACES, "-k", "late_writer or zombie"),
    ),
    Mutation(
        "on PostgreSQL the checkpoint does not ask for the token",
        "persistence/checkpoint_postgresql.py",
        "AND s.token = CAST(:token AS varchar) AND s.status = 'running'",
        "AND CAST(:token AS varchar) IS NOT NULL AND s.status = 'running'",
        ("tests/contract/test_store_checkpoint.py", RACES, "-k", "(late_writer or zombie) and postgresql"),
    ),
    Mutation(
        "a failure does not ask for the token",
        "persistence/setback.py",
        '_MINE = and_(THIS_STEP, steps.c.token == bindparam("b_token"), steps.c.status == "running")',
        '_MINE = and_(THIS_STEP, steps.c.status == "running")',
        ("tests/contract/test_store_setback.py", RACES, "-k", "late or release_and_a_failure"),
    ),
    Mutation(
        "what follows is sent before the checkpoint is committed",
        "tasks/ending.py",
        "    moved = _written(runtime, attempt, lambda: runtime.store.checkpoint(done))\n",
        "    early = [QueuedStep(key=StepKey(ref.session, r.step), task=r.task) for r in done.queued]\n"
        "    runtime.publisher.send(early)\n"
        "    moved = _written(runtime, attempt, lambda: runtime.store.checkpoint(done))\n",
        ("tests/sessions/test_order_of_effects.py",),
    ),
    Mutation(
        "a session's first messages are sent before it is committed",
        "sessions/starting.py",
        "    patience = runtime.config.database_patience\n    try:\n",
        "    patience = runtime.config.database_patience\n"
        "    runtime.remember(beginning.facts)\n"
        "    runtime.publisher.send(\n"
        '        QueuedStep(key=StepKey(session_id, r.step), task=r.task) for r in rows if r.status == "queued"\n'
        "    )\n"
        "    try:\n",
        ("tests/sessions/test_publish.py", "tests/sessions/test_store_away.py", "tests/sessions/test_many_starters.py"),
    ),
    Mutation(
        "on PostgreSQL a join counts its siblings instead of its arrivals",
        "persistence/checkpoint_postgresql.py",
        "         status = CASE WHEN j.needs_left = a.count AND head.halt IS NULL THEN 'queued' ELSE j.status END,\n",
        "         status = CASE WHEN (SELECT count(*) FROM session_steps o WHERE o.session_id = j.session_id\n"
        "                             AND o.status = 'running') <= 1 AND head.halt IS NULL\n"
        "                       THEN 'queued' ELSE j.status END,\n",
        (RACES, "-k", "last_members and postgresql"),
    ),
    Mutation(
        "a join is ready with its first arrival",
        "persistence/checkpoint.py",
        "if left == done.arrivals[step])",
        "if left >= done.arrivals[step])",
        ("tests/contract/test_store_checkpoint.py", "-k", "join and sqlite"),
    ),
    Mutation(
        "the head is not locked before a checkpoint",
        "persistence/gate.py",
        "_LOCK_HEAD = select(*_HEAD).where(THIS_HEAD).with_for_update()",
        "_LOCK_HEAD = select(*_HEAD).where(THIS_HEAD)",
        (RACES, "-k", "mariadb and (two_checkpoints or halt or cancel or settle)"),
    ),
    Mutation(
        "silence is judged without being a witness",
        "tasks/recovery.py",
        "    silent = timeout if witness else None\n",
        "    silent = timeout\n",
        ("tests/sessions/test_order_of_effects.py",),
    ),
    Mutation(
        "a release does not look at the heartbeat again",
        "persistence/setback.py",
        "    if silent_for is None:\n        return conn.execute(_LOCK_MINE",
        "    if True:\n        return conn.execute(_LOCK_MINE",
        ("tests/contract/test_store_recovery.py", "-k", "beats_again"),
    ),
    Mutation(
        "nobody looks for orphans",
        "tasks/recovery.py",
        "    for orphan in found:\n        if orphan.worker:\n",
        "    for orphan in []:\n        if orphan.worker:\n",
        ("tests/unit/worker", "tests/sessions", "-k", "orphan or recover or dead or lost"),
    ),
    Mutation(
        "a message takes a running step over",
        "persistence/claim.py",
        'and_(steps.c.status == "queued", steps.c.attempt == bindparam("b_attempt"))',
        'and_(steps.c.status.in_(["queued", "running"]), steps.c.attempt == bindparam("b_attempt"))',
        ("tests/contract/test_store_claim.py", "-k", "claimed_once"),
    ),
    Mutation(
        "a message of an old attempt claims the new one",
        "persistence/claim.py",
        'and_(steps.c.status == "queued", steps.c.attempt == bindparam("b_attempt"))',
        'and_(steps.c.status == "queued")',
        ("tests/contract/test_store_claim.py", "-k", "another_attempt or old_attempt"),
    ),
    Mutation(
        "a claim whose answer was lost is not recognised",
        "persistence/claim.py",
        'and_(steps.c.status == "running", steps.c.token == bindparam("b_token"))',
        'and_(steps.c.status == "never", steps.c.token == bindparam("b_token"))',
        ("tests/contract/test_store_claim.py", RACES, "-k", "answer_was_lost"),
    ),
    Mutation(
        "a checkpoint whose answer was lost is not recognised",
        "persistence/gate.py",
        "    return found == status\n",
        "    return False\n",
        ("tests/contract/test_store_checkpoint.py", RACES, "-k", "answer_was_lost"),
    ),
    Mutation(
        "an end that was not written is never looked for",
        "tasks/recovery.py",
        "    for session_id in runtime.store.unsettled(limit=BATCH):\n",
        "    for session_id in []:\n",
        ("tests/sessions/test_order_of_effects.py",),
    ),
    Mutation(
        "due steps are taken and stay due",
        "persistence/wake.py",
        "            (steps.c.wake_at, next_moment),\n",
        "            (steps.c.wake_at, steps.c.wake_at),\n",
        ("tests/contract/test_store_wake.py", "-k", "sqlite"),
    ),
    Mutation(
        "a crash counts as a failure",
        "persistence/setback.py",
        '        "failures": steps.c.failures + what.failures,\n        "retries"',
        '        "failures": steps.c.failures + what.failures + int(what.kind == "crash"),\n        "retries"',
        ("tests/contract/test_store_recovery.py", "tests/contract/test_store_setback.py", "-k", "crash or counts"),
    ),
    Mutation(
        "a step may kill its worker for ever",
        "tasks/fate.py",
        "    if crash and crashes >= runtime.config.max_crashes:\n",
        "    if False:\n",
        ("tests/sessions/test_resuming.py",),
    ),
    Mutation(
        "a checkpoint of a session that halts queues what follows",
        "persistence/checkpoint.py",
        "halted=head.halt is not None, clock=clock)",
        "halted=False, clock=clock)",
        ("tests/contract/test_store_checkpoint.py", "-k", "halts and sqlite"),
    ),
    Mutation(
        "a late beat leaves a witness a witness",
        "tasks/ticking.py",
        "        if self._since is None or now - self._last > self._longest_gap:\n",
        "        if self._since is None:\n",
        ("tests/unit/worker/test_ticking.py",),
    ),
    Mutation(
        "a step that ended is handed on as it was returned and not as it is stored",
        "tasks/runner.py",
        "            output = codec.decode(text)\n",
        "            output = value\n",
        ("tests/sessions/test_order_of_effects.py",),
    ),
    Mutation(
        "a duplicate's body runs",
        "tasks/guard_step.py",
        '    if attempt is None:\n        raise Ignore(f"nothing to do: {name_of(ref)}")\n',
        "    if attempt is None:\n        return body(task)\n",
        ("tests/unit/guard", "tests/sessions", "-k", "duplicate or twice or nothing_to_do or claim"),
    ),
    Mutation(
        "a prune deletes what was kept",
        "sessions/prune.py",
        "keep_last=usual.keep_last if keep_last is None else keep_last, cascade=cascade)",
        "keep_last=0, cascade=cascade)",
        ("tests/sessions/test_prune.py", "-k", "newest or keep"),
    ),
    Mutation(
        "a step in doubt is run again unasked",
        "tasks/fate.py",
        '    if began and orphan.on_crash == "ask":\n',
        '    if orphan.on_crash == "never":\n',
        ("tests/sessions/test_doubt.py", "-k", "asks or in_doubt"),
    ),
    Mutation(
        "a plain resume runs a step in doubt again",
        "persistence/head.py",
        "        refuse_doubts(conn, session_id)\n",
        "",
        ("tests/contract/test_store_answer.py", "-k", "plain_revive"),
    ),
    Mutation(
        "an answer does not ask which attempt was looked at",
        "persistence/answer.py",
        'WAITING, steps.c.attempt == bindparam("b_attempt"))',
        'WAITING, bindparam("b_attempt") > 0)',
        ("tests/contract/test_store_answer.py", "-k", "another_attempt"),
    ),
    Mutation(
        "an answered step keeps its late worker's token",
        "persistence/answer.py",
        '        token=bindparam("b_token"),\n',
        "",
        ("tests/contract/test_store_answer.py", "-k", "late_worker"),
    ),
    Mutation(
        "an answer whose commit was not heard of is given again",
        "persistence/answer.py",
        "        if before is not None:  #",
        "        if before is None and False:  #",
        ("tests/contract/test_store_answer.py", "-k", "not_heard_of"),
    ),
    Mutation(
        "a session goes on while a step of it is still in doubt",
        "persistence/answer.py",
        "    if not left:\n",
        "    if True:\n",
        ("tests/contract/test_store_answer.py", "-k", "while_others"),
    ),
)
