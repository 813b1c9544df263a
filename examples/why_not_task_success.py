"""Shows why a checkpoint in `task_success` comes too late: the next task of a chain starts before it.

Run it: `python examples/why_not_task_success.py` (needs no server). It is plain Celery; nothing of ours takes part but
the broker in a file.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

APP = """
import time
from celery import Celery
from celery.signals import task_prerun, task_success
from celery_cascade.embedded import embedded

app = Celery("why", **embedded())

def say(word, name):
    with open("order.log", "a") as log:
        log.write(f"{word} {name}\\n")

@task_prerun.connect
def starts(task, args, **_):
    say("starts", args[-1])

@task_success.connect
def checkpoint(sender, **_):
    time.sleep(1)                       # a checkpoint that takes its time
    say("checkpointed", sender.request.args[-1])

@app.task
def step(*names):
    return names[-1]
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "why.py").write_text(APP, encoding="utf-8")
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "why", "worker", "-c", "2", "-l", "ERROR"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            send = "from celery import chain; from why import step; chain(step.s('one'), step.s('two')).delay()"
            subprocess.run([sys.executable, "-c", send], cwd=folder, check=True)
            lines = wait_for_lines(Path(folder, "order.log"), 4)
        finally:
            worker.terminate()
            worker.wait(30)
    sys.stdout.write("\n".join(lines) + "\n")
    early = lines.index("starts two") < lines.index("checkpointed one")
    sys.stdout.write("the second task started before the first one's checkpoint\n" if early else "in order\n")
    return 0 if early else 1


def wait_for_lines(path: Path, count: int) -> list[str]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if len(lines) >= count:
            return lines
        time.sleep(0.1)
    raise SystemExit("the chain did not end within a minute")


if __name__ == "__main__":
    sys.exit(main())
