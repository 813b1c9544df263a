"""One session in the hand: killed, resumed, forked, run again, replayed, compared, and a chat after a restart.

python examples/in_the_hand/story.py                                  # needs no server
SHOP_DATABASE_URL=postgresql://… python examples/in_the_hand/story.py

Every command is printed as it can be typed. Ends with 0 if all came as it was told.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
CASCADE = (sys.executable, "-m", "celery", "-A", "shop", "cascade")
SECONDS = 60.0  # the longest that anything here may take


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("shop.py", "order.yaml", "chat.yaml"):
            shutil.copy(HERE / file, folder)
        tell(Story(folder))
    print("\nAll of it came as it was told.")
    return 0


def tell(story: Story) -> None:
    first = killed_and_resumed(story)
    with story.worker():
        other = forked(story, first)
        again = run_again(story, first)
    replayed(story, first)
    compared(story, first, other, again)
    chat_after_a_restart(story)


def killed_and_resumed(story: Story) -> str:
    title("The worker is killed in the middle, and the last session of the file is found again without its id")
    with story.worker() as worker:
        session = story.cascade("run", "order.yaml", "-i", "amount=4", "--detach").strip()
        wait_until((story.folder / "packing").exists, "nothing was packed")
        os.killpg(worker.pid, signal.SIGKILL)
    with story.worker(), story.beside("run", "order.yaml", "--resume") as resumed:
        (story.folder / "go").touch()
        output = resumed()
    expect(json.loads(output) == 44, output)
    expect(story.done(session) == ["price", "pack", "pack", "compute"], "a finished step ran twice")
    expect(story.json("ls")["count"] == 1, "a second session was made")
    return session


def forked(story: Story, first: str) -> str:
    title("A fork multiplies instead of adding; what was done before is kept")
    story.cascade("fork", first, "--at", "compute", "-i", "operation=multiply", "--dry-run")
    output = story.cascade("fork", first, "--at", "compute", "-i", "operation=multiply", "--watch")
    expect(json.loads(output) == 160, output)
    other = story.json("ls", "--fork-of", first)["sessions"][0]["session_id"]
    expect(story.done(other) == ["compute"], "a kept step ran again")
    return other


def run_again(story: Story, first: str) -> str:
    title("The same bytes and inputs once more, although the file is gone")
    (story.folder / "order.yaml").unlink()
    again = story.cascade("rerun", first, "--detach").strip()
    story.cascade("watch", again)
    expect(story.done(again) == ["price", "pack", "compute"], "not all of it ran again")
    return again


def replayed(story: Story, first: str) -> None:
    title("As it was at each version")
    story.cascade("replay", first)
    last = story.json("show", first)["session"]["version"]
    done = [replay_at(story, first, version) for version in range(1, last + 1)]
    expect(done == sorted(done), f"steps were undone: {done}")
    expect(done[0] == 0 and done[-1] == 3, f"not from the start to the end: {done}")


def replay_at(story: Story, session: str, version: int) -> int:
    """How many steps had succeeded at a version."""
    steps = story.json("replay", session, "--at", str(version))["session"]["steps"]
    return sum(step["status"] == "succeeded" for step in steps)


def compared(story: Story, first: str, other: str, again: str) -> None:
    title("Side by side")
    story.cascade("diff", first, other, exit_code=1)
    story.cascade("diff", first, again, "--only", "definition,inputs,outputs")
    story.cascade("tree", first)


def chat_after_a_restart(story: Story) -> None:
    title("A chat that goes on after a restart of everything")
    for message, said in (("What is 2+2?", "You said 'What is 2+2?'."), ("And times 3?", "before that 'What is 2+2?'")):
        with story.worker():
            options = ("--thread", "t1", "--resource", "ann", "-i", f"message={message}")
            expect(said in story.cascade("run", "chat.yaml", *options), f"not {said!r}")


class Story:
    """The project in its folder, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cascade(self, *arguments: str, exit_code: int = 0) -> str:
        """Run a command, show it with what it prints, and give its data."""
        print(f"\n$ celery -A shop cascade {' '.join(arguments)}", flush=True)
        done = self._run(*arguments)
        print(done.stderr + done.stdout, end="", flush=True)
        expect(done.returncode == exit_code, f"it ended with {done.returncode}")
        return done.stdout

    @contextmanager
    def beside(self, *arguments: str) -> Iterator[Callable[[], str]]:
        """Run a command that watches; inside it has begun to. What is given waits for its end, and gives its data."""
        print(f"\n$ celery -A shop cascade {' '.join(arguments)}", flush=True)
        words = self.folder / "words"
        with words.open("w") as file:
            process = subprocess.Popen(
                [*CASCADE, *arguments], cwd=self.folder, stdout=subprocess.PIPE, stderr=file, text=True
            )
        wait_until(lambda: "Found previous session" in words.read_text(), "the session was not found")

        def ended() -> str:
            output, _ = process.communicate(timeout=SECONDS)
            print(words.read_text() + output, end="", flush=True)
            expect(process.returncode == 0, f"it ended with {process.returncode}")
            return output

        try:
            yield ended
        finally:
            process.kill()

    def json(self, *arguments: str) -> dict:
        """The data of a command, which is not shown."""
        done = self._run(*arguments, "--json")
        expect(done.returncode == 0, done.stderr)
        return json.loads(done.stdout)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [*CASCADE, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=SECONDS, check=False)

    def done(self, session: str) -> list[str]:
        """Which bodies of a session have begun, in their order."""
        lines = (self.folder / "done.log").read_text(encoding="utf-8").splitlines()
        return [line.split()[1] for line in lines if line.startswith(session)]

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen]:
        command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-P", "threads", "-c", "2", "-l", "WARNING"]
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(SECONDS)


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    give_up = time.monotonic() + SECONDS
    while not holds():
        expect(time.monotonic() < give_up, otherwise)
        time.sleep(0.02)


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(f"Not as told: {otherwise}")


if __name__ == "__main__":
    sys.exit(main())
