"""Videos of a world that makes two frames at a time: segments are whole blocks, and together the unsegmented stream."""

import json

import numpy as np
import pytest
import torch
from tiny import Here, pictures

from vidar.configs.acdit import acdit_doom
from vidar.data.video import read_video, write_video
from vidar.model.load import save
from vidar.model.start_hashes import START
from vidar.rng import Rng
from vidar.synth.driver import SynthRequest, segment_frames, synthesise
from vidar.synth.segments import SegmentWorker, Task, boundary_frames
from vidar.synth.workers import LocalWorkers
from vidar.types import UsageError


@pytest.fixture(scope="module")
def blocks():
    torch.manual_seed(0)
    made = acdit_doom(preset="tiny").method.world.with_steps(1).build()
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def keys(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (count, 5)).astype(np.float32)


def test_a_segmented_video_is_the_unsegmented_one(blocks):
    """Exact up to rounding, in float64; from a context of five frames, of which the last four are two blocks."""
    wide = blocks.config.build().to(dtype=torch.float64)
    wide.net.load_state_dict(blocks.net.state_dict())
    wide.tokenizer.load_state_dict(blocks.tokenizer.state_dict())
    keep = boundary_frames(wide.config)
    assert keep % 2 == 0
    length, actions = keep + 2, keys(2 * keep + 9)
    rollout = wide.rollout(2)
    codes = wide.encode(torch.from_numpy(pictures(5, 1))[None])[:, 1:]
    rollout.open([1], codes, None, [Rng(7)])
    table = torch.from_numpy(np.concatenate([actions, keys(1) * 0]))
    made = [rollout.group(table[None, t : t + 2].expand(2, -1, -1))[1] for t in range(0, len(actions), 2)]
    want = torch.cat(made)[: len(actions)]
    segment_worker, start, parts = SegmentWorker(wide, 2), pictures(5, 1), []
    for number in range(3):
        piece = actions[number * length : (number + 1) * length]
        parts += segment_worker.make([Task(0, number, 1, 7, start, piece)])
        start = parts[-1].after
    assert [len(part.frames) for part in parts] == [length, length, len(actions) - 2 * length]
    assert np.abs(parts[1].after.codes - want[2 * length - keep : 2 * length].numpy()).max() < 1e-9
    assert np.array_equal(np.concatenate([part.frames for part in parts]), wide.decode(want[None])[0][0].numpy())


def test_many_workers_make_what_one_makes(blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(Here, "worlds", {})
    save(blocks, tmp_path / "w", dtype=torch.float32)
    write_video(tmp_path / "w" / START, pictures(4, 0), 17.5)
    length, _ = segment_frames(blocks.config, None)
    assert length % 2 == 0
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("".join(json.dumps({"id": f"v{n}", "frames": length + 3 + n, "seed": n}) + "\n" for n in range(2)))
    made = []
    for out, place, workers in (("a", Here, 1), ("b", LocalWorkers, 2)):
        told = {"model": str(tmp_path / "w"), "jobs": str(jobs), "out": str(tmp_path / out)}
        made.append(synthesise(SynthRequest(**told, rows=2, workers=workers), place=place)["jobs"])
        assert [len(read_video(tmp_path / out / f"v{n}.mp4")[0]) for n in range(2)] == [length + 3, length + 4]
    assert [job["segments"] for job in made[0]] == [job["segments"] for job in made[1]]


def test_a_segment_that_is_no_whole_blocks_is_one_line(blocks):
    with pytest.raises(UsageError, match="--segment 31: this world makes 2 frames together; give a multiple of 2"):
        segment_frames(blocks.config, 31)
