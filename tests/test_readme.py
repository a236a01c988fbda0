"""README's way from a game of one's own to a dream of it that is played, typed as it stands there."""

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from vidar.data.video import read_video
from vidar.model.load import load
from vidar.model.model import VideoModel

README = Path(__file__).parent.parent / "README.md"


def blocks(section: str) -> list[tuple[str, str]]:
    """(language, text) of the blocks of a section."""
    text = README.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


def components(mask: np.ndarray) -> list[int]:
    """Sizes of the connected parts of a picture bool [H, W], neighbours along the sides."""
    left, sizes = set(zip(*np.nonzero(mask), strict=True)), list[int]()
    while left:
        waiting, size = [left.pop()], 0
        while waiting:
            y, x = waiting.pop()
            size += 1
            near = {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} & left
            left -= near
            waiting.extend(near)
        sizes.append(size)
    return sizes


def one_square(world: VideoModel, seed: int) -> bool:
    """Whether 80 frames under random keys, each held for 8 frames, all show one part of about 16 x 16 bright pixels."""
    held = np.eye(3, dtype=np.float32)[np.random.default_rng(seed).integers(0, 3, 10), :2]
    frames = world.generate(actions=held.repeat(8, 0), seed=seed).frames[0]
    parts = [[size for size in components(frame[..., 0] > 140) if size > 8] for frame in frames]
    return all(len(sizes) == 1 and 180 <= sizes[0] <= 340 for sizes in parts)


def test_components():
    mask = np.zeros((6, 6), bool)
    mask[0, :3] = mask[1, 0] = mask[4:, 4:] = True
    assert sorted(components(mask)) == [4, 4] and components(~mask) == [28]


@pytest.mark.slow
def test_a_game_of_ones_own_becomes_a_world_that_obeys(tmp_path):
    (python, game), (yaml, actions), (sh, commands), (_, play) = blocks("Train on your own game in 20 lines")
    assert (python, yaml, sh) == ("python", "yaml", "sh")
    for text in (game, actions):
        (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    typed = {"cwd": tmp_path, "env": {**os.environ, "PATH": path}, "text": True}
    done = subprocess.run(["bash", "-euc", commands], capture_output=True, **typed)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"now: {play}" in done.stdout
    frames, fps = read_video(tmp_path / "mine.mp4")
    assert len(frames) == 30 and fps == 20
    bright = frames[..., 0] > 140  # the box is orange, the ground dark blue
    x = [float(np.nonzero(frame.any(0))[0].mean()) for frame in bright]
    assert x[9] < x[0] - 8 and x[29] > x[9] + 16, x  # left for 10 frames, right for 20, 3 pixels each at most
    for seed in range(3):
        assert one_square(load(tmp_path / "runs" / "world_own" / "model"), seed), f"seed {seed}"
    playing = subprocess.Popen(["bash", "-euc", f"exec {play.strip()} --port 0"], stdout=subprocess.PIPE, **typed)
    try:
        address = re.search(r"http://\S+", playing.stdout.readline()).group()
        assert b"play.js" in urllib.request.urlopen(address, timeout=60).read()
    finally:
        playing.terminate()
        playing.wait()
