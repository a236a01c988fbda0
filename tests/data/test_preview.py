from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from vidar.actions import Action, ActionSpec
from vidar.data.convert import convert_folder
from vidar.data.preview import contact_sheet, preview_video
from vidar.data.reader import data_info, episodes
from vidar.data.resize import resized
from vidar.data.shards import ShardWriter
from vidar.data.validate import validate
from vidar.data.video import read_video, write_video
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


def folder_of_videos(tmp_path, rows: str, count: int = 20, fps: float = 20):
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    t = np.arange(count)
    frames = np.broadcast_to((10 * t)[:, None, None, None], (count, 32, 32, 3)).astype(np.uint8)
    write_video(folder / "my clip.mp4", frames, fps)
    (folder / "my clip.csv").write_text(rows)
    return folder


@pytest.mark.parametrize("first", ["junk-free", "left-out"])
def test_convert_keeps_alignment_and_orders_columns(tmp_path, first):
    lines = [f"{t % 4},{t % 2},{int(t == 7)}" for t in range(20)]
    rows = "\n".join(["weapon,fire,left", *(lines if first == "junk-free" else lines[1:])]) + "\n"
    assert convert_folder(folder_of_videos(tmp_path, rows), tmp_path / "out", KEYS, 20) == 1
    (got,) = episodes(tmp_path / "out", "train")
    t = np.arange(1, 20)
    assert got.name == "my_clip" and got.source == "file:my clip"
    assert np.array_equal(got.actions[1:], np.stack([t == 7, t % 2, t % 4], axis=1))
    assert np.abs(got.frames[1:].mean((1, 2, 3)) - 10 * t).max() < 2
    assert validate(tmp_path / "out").ok


def test_long_videos_become_several_episodes(tmp_path, monkeypatch):
    monkeypatch.setattr("vidar.data.convert.PIECE", 8)
    rows = "\n".join(["left,fire,weapon", *(f"0,0,{t // 5}" for t in range(20))])
    assert convert_folder(folder_of_videos(tmp_path, rows), tmp_path / "out", KEYS, 20) == 3
    got = list(episodes(tmp_path / "out", "train"))
    assert [(e.name, len(e.frames), e.meta["start_frame"]) for e in got] == [
        ("my_clip_0000", 8, 0),
        ("my_clip_0001", 8, 8),
        ("my_clip_0002", 4, 16),
    ]
    for e in got:
        t = np.arange(len(e.frames)) + e.meta["start_frame"]
        assert np.abs(e.frames.mean((1, 2, 3)) - 10 * t).max() < 2
        assert np.array_equal(e.actions[1:, 2], t[1:] // 5)
    assert data_info(tmp_path / "out").frames == 20


@pytest.mark.parametrize(
    "rows, message",
    [
        ("left,fire\n0,0\n", "header is left, fire; expected left, fire, weapon"),
        ("", "header is empty"),
        ("left,fire,weapon\n" + "0,0,0\n" * 18, "18 rows for 20 frames; expected 20"),
        ("left,fire,weapon\n" + "0,0,0\n" * 21, "21 rows for 20 frames"),
        ("left,fire,weapon\n" + "0,0,0\n" * 5 + "0,x,0\n" + "0,0,0\n" * 14, r"row 5 \(0,x,0\)"),
        ("left,fire,weapon\n" + "0,0,0\n" * 5 + "0,0\n" + "0,0,0\n" * 14, r"row 5 \(0,0\)"),
        ("left,fire,weapon\n" + "0,0,0\n" * 5 + "0,2,0\n" + "0,0,0\n" * 14, "'fire' row 5 is 2"),
    ],
)
def test_convert_names_the_bad_table(tmp_path, rows, message):
    folder = folder_of_videos(tmp_path, rows)
    with pytest.raises(VidarError, match=message) as caught:
        convert_folder(folder, tmp_path / "out", KEYS, 20)
    assert "my clip.csv" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_convert_refuses_bad_folders_and_rates(tmp_path):
    folder = folder_of_videos(tmp_path, "left,fire,weapon\n" + "0,0,0\n" * 20)
    with pytest.raises(VidarError, match="runs at 20 fps, not at 30"):
        convert_folder(folder, tmp_path / "out", KEYS, 30)
    (folder / "my clip.csv").unlink()
    with pytest.raises(VidarError, match=r"my clip.csv: missing"):
        convert_folder(folder, tmp_path / "out", KEYS, 20)
    with pytest.raises(VidarError, match="no such folder"):
        convert_folder(tmp_path / "none", tmp_path / "out", KEYS, 20)
    os.makedirs(tmp_path / "empty")
    with pytest.raises(VidarError, match="no .mp4"):
        convert_folder(tmp_path / "empty", tmp_path / "out", KEYS, 20)


def test_resized_cuts_to_shape_and_averages():
    """4 x 8 pixels to 2 x 2: the middle 4 x 4 is kept, its means over 2 x 2 come back."""
    frame = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(1, 4, 8, 3)
    middle = frame[:, :, 2:6].astype(float)
    wanted = middle.reshape(1, 2, 2, 2, 2, 3).mean((2, 4))
    assert np.abs(resized(frame, (2, 2)) - wanted).max() <= 0.5
    assert resized(frame, (4, 8)) is frame


def test_convert_to_a_size(tmp_path):
    rows = "left,fire,weapon\n" + "0,1,2\n" * 20
    convert_folder(folder_of_videos(tmp_path, rows), tmp_path / "out", KEYS, 20, size=(16, 32))
    (episode,) = episodes(tmp_path / "out", "train")
    assert episode.frames.shape == (20, 16, 32, 3)
    assert np.abs(episode.frames.mean((1, 2, 3)) - 10 * np.arange(20)).max() < 2
