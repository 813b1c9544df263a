"""Starts the sessions that its standard input names, one a line, and says so in a log.

A job that says `die` kills this process between the commit of its start and the publish of the first message.
"""

from __future__ import annotations

import json
import os
import sys
import time

from proj import cascades, say

from celery_cascade.errors import SessionConflict, StoreUnavailable
from celery_cascade.tasks.publish import Publisher

DIED = 77


def start(job: dict) -> None:
    if job["die"]:
        Publisher.send = lambda *_: os._exit(DIED)  # type: ignore[method-assign]
    while True:
        try:
            cascades.start(job["file"], job["inputs"], session_id=job["id"])
        except SessionConflict:  # an earlier try of ours, whose answer was lost, or of the client before
            return
        except StoreUnavailable:
            time.sleep(0.2)
        else:
            return


for line in sys.stdin:
    job = json.loads(line)
    start(job)
    say("started.log", job["id"])
