from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vidar.actions import Action, ActionSpec
from vidar.data.preview import contact_sheet, preview_video
from vidar.data.resize import resized_crop
from vidar.data.shards import ShardWriter
from vidar.data.video import read_video
from vidar.types import UsageError, VidarError

KEYS = ActionSpec(actions=(Action(name="left"), Action(name="fire"), Action(name="weapon", kind="choice", size=4)))


def test_contact_sheet_shows_the_right_frames(shards, tmp_path):
    contact_sheet(shards(count=5), tmp_path / "sheet.png", rows=3, columns=4)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    assert sheet.shape == (3 * (23 + 14), 4 * 32, 3)
    for row, k in enumerate([0, 2, 4]):
        for column, t in enumerate([0, 8, 15, 23]):
            top, left = row * 37 + 14 + 11, column * 32
            assert abs(sheet[top, left + 8, 1] - 4 * t) <= 3 and abs(sheet[top, left + 24, 1] - 16 * k) <= 3
    with pytest.raises(UsageError, match="0 x 4"):
        contact_sheet(tmp_path / "set", tmp_path / "sheet.png", rows=0, columns=4)
    with pytest.raises(VidarError, match="not a regular file"):
        contact_sheet(tmp_path / "set", tmp_path, rows=1, columns=1)


def test_preview_lights_the_keys_that_led_to_the_frame(tmp_path, episode):
    actions = np.zeros((20, 3), np.float32)
    actions[7, 1] = 1
    actions[9:12, 0] = 1
    frames = np.full((20, 64, 64, 3), 90, np.uint8)
    with ShardWriter(tmp_path / "d", "train", KEYS) as writer:
        writer.write(episode(0, frames=frames, actions=actions, spec=KEYS, extras={}))
    preview_video(tmp_path / "d", tmp_path / "p.mp4", "ep00")
    video, fps = read_video(tmp_path / "p.mp4")
    assert len(video) == 20 and fps == 17.5 and video.shape[2] == 320
    assert np.abs(video[:, 10:310, 10:310].astype(int) - 90).max() <= 4  # the picture, five times as large
    yellow = (video[:, 330:, :, 0] > 180) & (video[:, 330:, :, 2] < 120)
    lit = yellow.sum((1, 2)) > 100
    assert np.flatnonzero(lit).tolist() == [7, 9, 10, 11]
    center = [np.flatnonzero(yellow[t].any(0)).mean() for t in (7, 9)]
    assert center[0] > center[1] + 15  # fire lies to the right of left


def test_resized_cuts_to_shape_and_averages():
    """4 x 8 pixels to 2 x 2: the middle 4 x 4 is kept, its means over 2 x 2 come back."""
    frame = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(1, 4, 8, 3)
    middle = frame[:, :, 2:6].astype(float)
    wanted = middle.reshape(1, 2, 2, 2, 2, 3).mean((2, 4))
    assert np.abs(resized_crop(frame, (2, 2)) - wanted).max() <= 0.5
    assert resized_crop(frame, (4, 8)) is frame
