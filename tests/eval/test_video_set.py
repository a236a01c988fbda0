"""Folders of videos: what is found, what is left out under which name, and that clips are the frames of the file."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from vidar.data.gif import write_gif
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.data.video import read_video, write_video
from vidar.eval.video_set import find_videos, same_rate, without_short
from vidar.types import UsageError, VidarError


def frames(seed: int, count: int = 12, height: int = 32, width: int = 40) -> np.ndarray:
    return ShapesConfig(height=height, width=width, frames=count).build().episode(seed).frames


def written(path: Path, video: np.ndarray, full: bool) -> Path:
    """H.264 with luma from 0 to 255 or from 16 to 235."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0", "bf": "0"})
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuvj420p" if full else "yuv420p"
        stream.codec_context.color_range = 2 if full else 1
        for picture in video:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            kind = "yuvj420p" if full else "yuv420p"
            container.mux(stream.encode(frame.reformat(format=kind, dst_color_range=2 if full else 1)))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six good videos of four kinds beside one of each fault."""
    place = tmp_path / "videos"
    place.mkdir()
    for n in range(2):
        write_video(place / f"good-{n}.mp4", frames(n), 10)
    write_video(place / "good-2.webm", frames(2), 10)
    write_gif(place / "good-3.gif", frames(3), 10)
    np.save(place / "rows.npy", np.stack([frames(4), frames(5)]))
    write_video(place / "large.mp4", frames(6, height=48), 10)
    write_video(place / "quick.mp4", frames(7), 20)
    write_video(place / "short.mp4", frames(8, 6), 10)
    (place / "twin.mp4").write_bytes((place / "good-0.mp4").read_bytes())
    whole = (place / "good-1.mp4").read_bytes()
    (place / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    np.save(place / "float.npy", np.zeros((3, 12, 32, 40, 3), np.float32))
    (place / "good-0.json").write_text("{}")
    (place / ".hidden.mp4").write_text("")
    (place / "inner").mkdir()
    return place


def test_every_fault_has_a_name_and_a_reason(folder: Path) -> None:
    """Size, rate, copy, damage and type; other files are counted; too short ones go when a clip is known."""
    found = find_videos(folder)
    assert [video.name for video in found.videos] == [
        *("good-0.mp4", "good-1.mp4", "good-2.webm", "good-3.gif", "rows.npy[0]", "rows.npy[1]", "short.mp4"),
    ]
    assert (found.size, found.split) == ((32, 40), "") and found.fps == pytest.approx(10)
    assert [video.fps for video in found.videos[4:6]] == [None, None] and dict(found.others) == {
        ".json": 1,
        "folders": 1,
    }
    reasons = dict(found.left_out)
    assert reasons.keys() == {"cut.mp4", "float.npy", "large.mp4", "quick.mp4", "twin.mp4"}
    assert reasons["large.mp4"] == "another size: 40x48, most have 40x32"
    assert reasons["quick.mp4"] == "another frame rate: 20, most have 10"
    assert reasons["twin.mp4"] == "the same content as good-0.mp4"
    assert reasons["cut.mp4"].startswith("unreadable: ") and str(folder) not in reasons["cut.mp4"]
    assert reasons["float.npy"].startswith("unreadable: is float32 [3, 12, 32, 40, 3], expected uint8")
    long = without_short(found, 12)
    assert len(long.videos) == 6 and long.left_out[-1] == ("short.mp4", "too short: 6 of 12 frames")
    facts = long.facts()
    assert facts["videos"] == 6 and facts["frames"] == 72 and len(facts["left_out"]) == 6 and facts["size"] == "40x32"
    with pytest.raises(VidarError, match="no video has the 13 frames of a clip, the longest has 12"):
        without_short(found, 13)


def test_clips_are_the_frames_of_the_file(folder: Path, tmp_path: Path) -> None:
    """By seeking or in one pass, with gaps between frames and clips, from files, arrays and shards."""
    record(ShapesConfig(), None, tmp_path / "shards", episodes=2, frames=12, split="heldout")
    places = [np.array([1, 3]), np.array([4, 5]), np.array([8, 11])]
    for videos in (find_videos(folder), find_videos(tmp_path / "shards")):
        for video in videos.videos[:6]:
            whole = np.concatenate(list(video.reader.clips([np.arange(12)])))
            assert whole.shape == (12, *video.size, 3)
            for clip, place in zip(video.reader.clips(places), places, strict=True):
                np.testing.assert_array_equal(clip, whole[place])
    np.testing.assert_array_equal(find_videos(folder).videos[1].reader.clips([np.arange(12)]).__next__(),
                                  read_video(folder / "good-1.mp4")[0])  # fmt: skip


def test_splits_belong_to_shards(folder: Path, tmp_path: Path) -> None:
    """Held-out is the default where it exists; files have none; an unknown one lists those that exist."""
    for split in ("train", "heldout"):
        record(ShapesConfig(), None, tmp_path / "d", episodes=1, frames=8, seed=len(split), split=split)
    assert find_videos(tmp_path / "d").split == "heldout" and find_videos(tmp_path / "d", "train").split == "train"
    with pytest.raises(UsageError, match="holds video files, which have no splits"):
        find_videos(folder, "heldout")
    with pytest.raises(VidarError, match="has no split 'x'; available: train, heldout"):
        find_videos(tmp_path / "d", "x")


def test_a_data_set_without_its_index_is_no_folder_of_videos(tmp_path: Path) -> None:
    """Lost, a folder, or a link that leads nowhere: the line names the index."""
    record(ShapesConfig(), None, tmp_path / "d", episodes=1, frames=8)
    index = tmp_path / "d" / "shards.json"
    index.unlink()
    for spoil in (lambda: None, index.mkdir, lambda: index.rmdir() or index.symlink_to("nowhere")):
        spoil()
        with pytest.raises(VidarError, match=r"shards\.json: missing, so"):
            find_videos(tmp_path / "d")


def test_folders_without_videos_are_one_line(tmp_path: Path) -> None:
    """None, an empty one, and one in which nothing can be read, with the first reason."""
    with pytest.raises(VidarError, match="no such folder"):
        find_videos(tmp_path / "absent")
    (tmp_path / "inner").mkdir()
    with pytest.raises(VidarError, match="no video can be read here; subfolders are not searched"):
        find_videos(tmp_path)
    (tmp_path / "a.mp4").write_text("text")
    with pytest.raises(VidarError, match="no video can be read here; a.mp4: unreadable"):
        find_videos(tmp_path)


def test_the_range_of_colours_is_read_properly_and_counted(tmp_path: Path) -> None:
    """The same pictures stored with luma of 0 to 255 and of 16 to 235 look the same, within the rounding of 8 bits."""
    video = frames(0)
    written(tmp_path / "full.mp4", video, True)
    written(tmp_path / "limited.mp4", video, False)
    found = find_videos(tmp_path)
    assert [one.full_range for one in found.videos] == [True, False] and found.facts()["of_full_range"] == 1
    full, limited = (next(iter(one.reader.clips([np.arange(12)]))).astype(int) for one in found.videos)
    assert abs(full.mean() - video.mean()) < 1 and abs(limited.mean() - video.mean()) < 1
    assert np.abs(full - limited).mean() < 2


def test_rates_of_gifs_are_hundredths() -> None:
    """8.75 frames/s in a GIF are 8.73 or 8.77; 24 and 25 are not the same; arrays have any."""
    assert same_rate(8.75, 8.73) and same_rate(None, 3) and not same_rate(24, 25)
