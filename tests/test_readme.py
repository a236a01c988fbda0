"""README's way from a game of one's own to a dream of it, typed as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vidar.data.video import read_video

README = Path(__file__).parent.parent / "README.md"


def blocks(section: str) -> dict[str, str]:
    """language -> text of the only block of that language in a section."""
    text = README.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    assert len(found) == len(dict(found)), f"two blocks of one language in {section!r}"
    return dict(found)


@pytest.mark.slow
def test_a_game_of_ones_own_becomes_a_world_that_obeys(tmp_path):
    parts = blocks("Train on your own game in 20 lines")
    for language in ("python", "yaml"):
        name = parts[language].splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(parts[language])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = ["bash", "-euc", parts["sh"]]
    done = subprocess.run(shell, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    frames, fps = read_video(tmp_path / "mine.mp4")
    assert len(frames) == 30 and fps == 20
    bright = frames[..., 0] > 140  # the box is orange, the ground dark blue
    x = [float(np.nonzero(frame.any(0))[0].mean()) for frame in bright]
    assert x[9] < x[0] - 8 and x[29] > x[9] + 16, x  # left for 10 frames, right for 20, 3 pixels each at most
