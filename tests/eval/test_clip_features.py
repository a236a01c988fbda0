"""The choice of clips, and features that are streamed, kept, and computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidar.eval.clip_features import BATCH, PROTOCOLS, Clip, Sampling, choose, features, read
from vidar.eval.extractors import Pixels
from vidar.eval.video_set import VideoSet, find_videos
from vidar.types import UsageError

LENGTHS = (40, 16, 33, 70)


class Counting(Pixels):
    """Pixels that count the clips they saw, and may give up."""

    def __init__(self, most: int = 10**9) -> None:
        self.seen, self.most = 0, most

    def __call__(self, video: np.ndarray) -> np.ndarray:
        if self.seen + len(video) > self.most:
            raise KeyboardInterrupt
        self.seen += len(video)
        return super().__call__(video)


@pytest.fixture
def videos(tmp_path: Path) -> VideoSet:
    """Four arrays of noise; pixel 0 of frame t of video n is (n, t, 0)."""
    for n, count in enumerate(LENGTHS):
        frames = np.random.Generator(np.random.Philox(n)).integers(0, 256, (count, 16, 24, 3)).astype(np.uint8)
        frames[:, 0, 0] = np.stack([np.full(count, n), np.arange(count), np.zeros(count)], 1)
        np.save(tmp_path / f"{n}.npy", frames)
    return find_videos(tmp_path)


def test_clips_do_not_overlap_and_use_all_videos_first(videos: VideoSet) -> None:
    """Every number of clips: distinct spans inside their videos; each video once before any twice; seeds differ."""
    whole = choose(videos, Sampling(16), 0)
    assert len(whole) == sum(count // 16 for count in LENGTHS) == 9 and whole == sorted(whole)
    for count in range(1, 10):
        clips = choose(videos, Sampling(16, clips=count), 3)
        assert len(clips) == count and len({clip.video for clip in clips}) == min(count, 4)
        for n, frames in enumerate(LENGTHS):
            starts = [clip.start for clip in clips if clip.video == n]
            assert all(0 <= start <= frames - 16 for start in starts) and all(np.diff(starts) >= 16)
    assert choose(videos, Sampling(16, clips=4), 3) == choose(videos, Sampling(16, clips=4), 3)
    assert len({tuple(choose(videos, Sampling(16, clips=4), seed)) for seed in range(8)}) > 4
    with pytest.raises(UsageError, match="9 clips of 16 frames are there, 10 are asked for"):
        choose(videos, Sampling(16, clips=10), 0)


def test_generated_videos_of_a_protocol_begin_at_their_first_frame(videos: VideoSet) -> None:
    """With a stride, a clip takes up frames times stride; the published protocols span 16 or 128 frames."""
    clips = choose(videos, Sampling(4, 8), 5, from_start=True)
    assert [tuple(clip) for clip in clips] == [(0, 0), (2, 0), (3, 0), (3, 32)]
    spans = {name: (one.frames, one.span, one.clips) for name, one in PROTOCOLS.items()}
    assert spans["fvd2048_16f"] == (16, 16, 2048) and spans["fvd2048_128f_subsample8f"] == (16, 128, 2048)
    assert spans["fvd2048_128f"] == (128, 128, 2048)


def test_clips_hold_the_frames_that_were_chosen(videos: VideoSet) -> None:
    """Video and frame numbers are in the pixels; a new size keeps number and order."""
    clips, sampling = [Clip(0, 3), Clip(2, 0), Clip(2, 17), Clip(3, 41)], Sampling(5, 3)
    for clip, frames in zip(clips, read(videos, clips, sampling, None), strict=True):
        assert frames[:, 0, 0].tolist() == [[clip.video, clip.start + 3 * k, 0] for k in range(5)]
    assert [clip.shape for clip in read(videos, clips, sampling, (8, 12))] == [(5, 8, 12, 3)] * 4


def test_features_are_those_of_one_pass_and_computed_once(videos: VideoSet, tmp_path: Path) -> None:
    """Interrupted after a batch, the next run computes the rest; a damaged file, other frames or content are new."""
    sampling, cache = Sampling(8), tmp_path / "features"
    clips = choose(videos, sampling, 0)
    whole = np.stack(list(read(videos, clips, sampling, None)))
    assert len(clips) > 2 * BATCH
    ticks: list[tuple[int, int]] = []

    def run(extractor: Counting, sampling: Sampling = sampling, seen: VideoSet = videos) -> np.ndarray:
        return features(seen, clips, sampling, None, extractor, cache, lambda *done: ticks.append(done))

    with pytest.raises(KeyboardInterrupt):
        run(Counting(BATCH))
    second = Counting()
    np.testing.assert_array_equal(run(second), Pixels()(whole))
    assert second.seen == len(clips) - BATCH and ticks[-1] == (len(clips), len(clips))
    third = Counting()
    run(third)
    assert third.seen == 0
    damaged = sorted(cache.iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:40])
    run(third)
    assert 0 < third.seen <= BATCH
    fourth = Counting()
    run(fourth, Sampling(8, 1, clips=5))  # the number of clips that were asked for is no part of a clip
    assert fourth.seen == 0
    np.save(tmp_path / "3.npy", np.load(tmp_path / "3.npy")[::-1].copy())
    run(fourth, seen=find_videos(tmp_path))
    assert fourth.seen >= sum(clip.video == 3 for clip in clips)
