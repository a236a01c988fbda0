"""Processes of an evaluation: they end together with what they have started, however they are ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = '''
import os, subprocess, sys, time
from pathlib import Path
from vidar.eval.processes import in_processes

FOLDER = Path(sys.argv[1])

def begin(folder):
    """A game that holds what it inherits: without that, nobody waits for it."""
    game = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], close_fds=False)
    (folder / f"{os.getpid()}.game").write_text(str(game.pid))

def work(item):
    time.sleep(120)

if __name__ == "__main__":
    try:
        list(in_processes(work, [1, 2, 3], 2, begin, (FOLDER,)))
    except KeyboardInterrupt:
        sys.exit(130)
'''


def alive(process: int) -> bool:
    """Whether it runs; a process that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def within(seconds: float, done: object) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.1)
    return done()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_games_end_with_the_evaluation(tmp_path: Path, how: signal.Signals) -> None:
    """Interrupted or killed by its own number, not as a group: the parent ends at once, and no game goes on."""
    script = tmp_path / "evaluation.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=dict(os.environ))
    games = lambda: [int(text) for file in tmp_path.glob("*.game") if (text := file.read_text())]  # noqa: E731
    try:
        assert within(120, lambda: len(games()) == 2)
        parent.send_signal(how)
        assert parent.wait(30) in (130, -signal.SIGKILL)
        assert within(30, lambda: not any(map(alive, games())))
    finally:
        parent.kill()
        for process in filter(alive, games()):
            os.kill(process, signal.SIGKILL)
