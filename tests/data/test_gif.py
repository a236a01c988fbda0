"""GIF files: one picture per frame at its time, close to the frame, and nothing left of a failed write."""

import numpy as np
import pytest
from PIL import Image

from vidar.data.gif import write_gif
from vidar.data.synthetic import ShapesConfig
from vidar.types import VidarError

FRAMES = ShapesConfig(height=30, width=42).build().episode(0).frames[:7]


def read(file):
    with Image.open(file) as picture:
        frames, times = [], []
        for number in range(picture.n_frames):
            picture.seek(number)
            frames.append(np.array(picture.convert("RGB")))
            times.append(picture.info["duration"])
        return np.stack(frames), times, picture.info.get("loop")


@pytest.mark.parametrize("fps", [0.5, 10, 17.5, 24, 50])
def test_every_frame_is_there_at_its_time(fps, tmp_path):
    """Also those that equal the frame before; the error of a frame's time does not add up."""
    video = np.concatenate([FRAMES, FRAMES[-1:], FRAMES[-1:]])
    write_gif(tmp_path / "x.gif", video, fps)
    frames, times, loop = read(tmp_path / "x.gif")
    assert frames.shape == video.shape and loop == 0
    starts = np.cumsum([0, *times[:-1]])
    assert np.abs(starts - 1000 * np.arange(len(video)) / fps).max() <= 5.001
    assert np.abs(frames.astype(float) - video).mean() < 3


def test_frames_of_few_colours_are_exact(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (5, 200, 3), dtype=np.uint8)
    video = np.stack([c[np.random.default_rng(1).integers(0, 200, (16, 20))] for c in colours])  # others in each frame
    write_gif(tmp_path / "x.gif", video, 10)
    assert np.array_equal(read(tmp_path / "x.gif")[0], video)


def test_what_a_gif_cannot_hold_is_one_line_and_leaves_nothing(tmp_path):
    with pytest.raises(VidarError, match="at most 50 frames per second, this has 60"):
        write_gif(tmp_path / "x.gif", FRAMES, 60)
    with pytest.raises(VidarError, match="there are no frames"):
        write_gif(tmp_path / "x.gif", [], 10)
    with pytest.raises(VidarError, match="does not exist"):
        write_gif(tmp_path / "none" / "x.gif", FRAMES, 10)
    assert not list(tmp_path.iterdir())
