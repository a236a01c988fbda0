"""A video on disk: it grows by whole segments, is found again, and becomes an mp4 with what lies beside it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SEGMENT, pictures

from vidar.data.video import read_video
from vidar.eval.frame_metrics import brightness, contrast, sharpness
from vidar.synth.frame_stats import frame_stats, strip_frames
from vidar.synth.jobs import read_jobs
from vidar.synth.segments import ContinuationState, SegmentResult
from vidar.synth.video_output import VideoOutput
from vidar.types import VidarError

VIDEO = pictures(2 * SEGMENT + 3, 2)


@pytest.fixture
def plan(world, model, write_jobs):
    def make(**changes):
        job = {"id": "a", "seed": 0, "frames": len(VIDEO), **changes}
        return read_jobs(write_jobs(job), world.config, model / "start.mp4")[0][0]

    return make


def segment(number):
    boundary = ContinuationState(np.full((11, 20, 8), number, np.float32), np.zeros((11, 5), np.float32), number)
    return SegmentResult(0, number, VIDEO[number * SEGMENT : (number + 1) * SEGMENT], boundary)


def test_a_video_grows_and_is_finished(plan, tmp_path):
    output = VideoOutput(tmp_path, plan(size=[160, 128]), SEGMENT)
    assert output.recover() is None and output.total == 3
    for number in range(3):
        output.add(segment(number))
        names = {file.name for file in output.folder.iterdir()}
        assert {f"{n:06d}.{end}" for n in range(number + 1) for end in ("ts", "json")} < names
        assert sum("boundary" in name for name in names) == (number < 2)  # only that of the next one
    with pytest.raises(ValueError, match="is not the next one"):
        output.add(segment(2))
    output.finish({"rows": 4})
    output.clear()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.drift.png", "a.json", "a.mp4", "a.png", "jobs.jsonl"]
    frames, fps = read_video(tmp_path / "a.mp4")
    assert frames.shape == (len(VIDEO), 128, 160, 3) and fps == 17.5
    small = np.stack([np.asarray(Image.fromarray(frame).resize((80, 64))) for frame in frames]).astype(float)
    assert np.abs(small - VIDEO).mean() < 12
    strip = np.asarray(Image.open(tmp_path / "a.png")).reshape(64, 8, 80, 3).swapaxes(0, 1)
    assert np.array_equal(strip, VIDEO[[0, 4, 7, 11, 15, 19, 22, 26]])
    side = json.loads((tmp_path / "a.json").read_text())
    assert side["segments"] == output.hashes and len(set(output.hashes)) == 3 and side["rows"] == 4
    assert (side["frames"], side["seed"], side["arguments"]["id"]) == (len(VIDEO), 0, "a")


def test_what_was_whole_is_found_again(plan, tmp_path):
    output = VideoOutput(tmp_path, plan(), SEGMENT)
    output.recover()
    output.add(segment(0))
    output.add(segment(1))
    (output.folder / "000002.ts").write_bytes(b"half a fragment")  # no record: it does not count
    (output.folder / "000002.json.tmp.123").write_text("{")
    again = VideoOutput(tmp_path, plan(), SEGMENT)
    boundary = again.recover()
    assert boundary is not None and boundary.first == 1 and boundary.codes[0, 0, 0] == 1
    assert again.hashes == output.hashes and again.frames == 2 * SEGMENT
    assert not list(output.folder.glob("*.tmp.*"))
    again.add(segment(2))
    again.finish({})
    assert len(read_video(tmp_path / "a.mp4")[0]) == len(VIDEO)


@pytest.mark.parametrize("lost", ["000002.boundary.safetensors", "000000.ts", "000000.json"])
def test_where_parts_are_missing_it_begins_anew(lost, plan, tmp_path):
    output = VideoOutput(tmp_path, plan(), SEGMENT)
    output.recover()
    output.add(segment(0))
    output.add(segment(1))
    (output.folder / lost).unlink()
    again = VideoOutput(tmp_path, plan(), SEGMENT)
    assert again.recover() is None and again.frames == 0
    again.add(segment(0))


def test_a_fragment_that_lost_frames_is_no_video(plan, tmp_path):
    output = VideoOutput(tmp_path, plan(), SEGMENT)
    output.recover()
    for number in range(3):
        output.add(segment(number))
    (output.folder / "000001.ts").write_bytes((output.folder / "000002.ts").read_bytes())
    with pytest.raises(VidarError, match=r"holds 18 frames of 27; remove it"):
        output.finish({})
    assert not (tmp_path / "a.mp4").exists()


def test_looks_are_those_of_the_evaluation():
    made, video = frame_stats(VIDEO[:4]), torch.from_numpy(VIDEO[None, :4])
    for name, measure in {"brightness": brightness, "contrast": contrast, "sharpness": sharpness}.items():
        assert np.allclose(made[name], measure(video)[0].numpy(), atol=1e-3), name


def test_a_strip_has_the_first_and_the_last_frame():
    assert strip_frames(1) == [0] and strip_frames(3) == [0, 1, 2]
    assert strip_frames(1050) == [0, 150, 300, 450, 599, 749, 899, 1049]
