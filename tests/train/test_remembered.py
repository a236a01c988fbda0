"""Clips with what a memory shows, from recordings of a room with known walls, and the same recomputed slowly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vidar.actions import Action, ActionSpec
from vidar.cache.points import Frame, PointsConfig, unprojected
from vidar.configs.doom import world_doom
from vidar.data.episode import Episode
from vidar.data.shards import ShardWriter
from vidar.model.geometry import MARKS, filled, marked
from vidar.nn.depth import DepthNet, DepthNetConfig
from vidar.nn.pose import motion
from vidar.nn.pretrained import load_component, save_component
from vidar.nn.walk import after
from vidar.tokenizers.patch import to_sites
from vidar.tokenizers.pixels import to_float
from vidar.train.encoded import Encoding
from vidar.train.remembered import RememberedClips, RememberedClipsConfig
from vidar.train.walks import Walks, WalksConfig
from vidar.types import UsageError, VidarError

HALF, EYE = 100.0, 40.0  # the room is a square of 200 map units, floor and ceiling are 40 below and above the eye
POINTS = PointsConfig(height=32, width=48, view=86.3)
SPEC = ActionSpec(actions=(Action(name="turn"), Action(name="walk")))
LENGTHS, PATCH, RAYS, REACH = (9, 7, 8), 2, 8, 160.0


def room(pose: Tensor) -> np.ndarray:
    """The picture of the room from a pose."""
    way = unprojected(torch.ones(POINTS.height, POINTS.width), torch.cat([torch.zeros(3), pose[3:]]), POINTS).double()
    here = pose[:3].double()
    walls = [torch.where(way[..., a] > 0, HALF - here[a], -HALF - here[a]) / way[..., a] for a in (0, 1)]
    depth = torch.stack([*walls, EYE / way[..., 2].abs()]).amin(0)
    place = here + way * depth[..., None]
    return (127.5 + 120 * torch.sin(place / torch.tensor([23.0, 29.0, 17.0]))).to(torch.uint8).numpy()


def episode(number: int, count: int, posed: bool = True) -> Episode:
    """A player who turns by 15 degrees and walks by 6 units with its keys."""
    actions = np.random.default_rng(number).integers(0, 2, (count, 2)).astype(np.float32)
    actions[0] = 0
    poses = [torch.tensor([10.0 * number, -20.0, 0.0, 100.0 * number])]
    for turn, walk in actions[1:]:
        poses.append(after(poses[-1], torch.tensor([15.0 * turn, 6.0 * walk, 0.0])))
    frames = np.stack([room(pose) for pose in poses])
    extras = {"pose": torch.stack(poses).numpy()} if posed else {}
    return Episode(frames, actions, 10.0, SPEC, f"e{number}", "room", extras)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three lossless episodes in two shards, a tokenizer and a depth network of random weights."""
    place = tmp_path_factory.mktemp("room")
    with ShardWriter(place / "data", "train", SPEC, max_samples=2, lossless=True) as writer:
        for number, count in enumerate(LENGTHS):
            writer.write(episode(number, count))
    torch.manual_seed(0)
    tokenizer = world_doom(preset="tiny").method.world.tokenizer
    save_component(tokenizer.build(), tokenizer, place / "tokenizer")
    DepthNetConfig(height=32, width=48, widths=(8, 8)).build().save_pretrained(place / "depth")
    return {"path": str(place / "data"), "tokenizer": str(place / "tokenizer"), "depth": str(place / "depth")}


def config(folders: dict[str, str], **changes: object) -> RememberedClipsConfig:
    sizes = {"points": POINTS, "rays": RAYS, "reach": REACH, "patch": PATCH, "clip_frames": 3, "batch": 8}
    return RememberedClipsConfig(**(folders | sizes | {"blind": 0.0, "noise": 0.0} | changes))


@pytest.fixture(scope="module")
def clips(folders) -> RememberedClips:
    return config(folders).build()


def slowly(one: Episode, folders: dict[str, str]) -> tuple[Tensor, Tensor]:
    """Views and ranges of an episode: for every frame the memory of all frames before it, made anew."""
    net, tokenizer = DepthNet.from_pretrained(folders["depth"]), load_component(folders["tokenizer"])
    frames, poses = torch.from_numpy(one.frames), torch.from_numpy(one.extras["pose"])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        seen = [Frame(f, net(f[None])[0], pose) for f, pose in zip(frames, poses)]
    pictures, marks, ranges = [], [], []
    for number, pose in enumerate(poses):
        points = POINTS.build()
        for earlier in range(number):
            if points.lacks(points.draw(poses[earlier], seen[max(0, earlier - 1) : earlier])):
                points = points.add(seen[earlier])
        drawn = points.draw(pose, seen[max(0, number - 1) : number])
        pictures.append(filled(drawn.colour, drawn.seen))
        marks.append(marked(drawn))
        ranges.append(points.ranges(pose, RAYS, REACH))
    with torch.inference_mode():
        made = tokenizer.encode(to_float(torch.stack(pictures)[None]))[0].data
    codes = to_sites(made, PATCH)[0].unflatten(0, (len(frames), -1))
    beside = to_sites(torch.stack(marks)[:, :, None], PATCH)
    return torch.cat([codes, beside], -1), torch.stack(ranges)


def test_views_are_those_of_a_slow_recomputation(clips, folders) -> None:
    """Codes and marks in bfloat16; nothing is shown before the first frame, and much before the last."""
    views, ranges = (torch.cat(one) for one in zip(*(slowly(episode(n, c), folders) for n, c in enumerate(LENGTHS))))
    assert clips.views.shape == views.shape
    torch.testing.assert_close(clips.views.float(), views, rtol=0.02, atol=0.02)
    torch.testing.assert_close(clips.ranges, ranges, rtol=0.02, atol=0.5)
    share = clips.views[..., -MARKS * PATCH**2 : -(MARKS - 1) * PATCH**2].float().mean((1, 2))
    starts = [0, 9, 16]
    assert not share[starts].any() and all(share[start + 1 : start + 7].min() > 0.5 for start in starts)


def test_a_batch_has_the_stored_views_of_its_clips_and_is_a_function_of_its_index(clips, folders) -> None:
    other = config(folders).build()
    for index in (5, 0, 3):
        batch, again = clips.batch(index), other.batch(index)
        assert torch.equal(batch.views, again.views) and torch.equal(batch.codes, again.codes)
        assert batch.names == again.names
        for row, name in enumerate(batch.names):
            key, start = name.split("@")
            first = sum(LENGTHS[: int(key[1:])]) + int(start)
            assert torch.equal(batch.views[row], clips.views[first : first + 3].float())
            assert torch.equal(batch.codes[row], clips.codes[first : first + 3])


def test_a_share_of_the_clips_is_blind(clips, folders) -> None:
    """Four deviations of a binomial share; the others are shown everything."""
    assert not config(folders, blind=1.0).build().batch(2).views.any()
    made = config(folders, blind=0.3).build()
    batches = [(made.batch(index).views, clips.batch(index).views) for index in range(50)]
    blind = [not bool(one.any()) for views, _ in batches for one in views]
    assert abs(sum(blind) / 400 - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5
    for views, whole in batches:
        assert all(not one.any() or torch.equal(one, other) for one, other in zip(views, whole))


def test_noise_is_on_the_codes_alone_and_has_its_size(clips, folders) -> None:
    """Of a standard deviation that is uniform in (0, most) for each clip: a mean square of most^2 / 3.

    200 clips: five standard errors.
    """
    noisy, most, marks = config(folders, noise=0.6).build(), 0.6, MARKS * PATCH**2
    off = torch.cat([noisy.batch(index).views - clips.batch(index).views for index in range(25)])
    again = noisy.batch(7).views
    assert torch.equal(again, config(folders, noise=0.6).build().batch(7).views)
    assert not off[..., -marks:].any()
    each = off[..., :-marks].double().square().mean((1, 2, 3))
    assert abs(float(each.mean()) - most**2 / 3) < 5 * float(each.std()) / len(each) ** 0.5
    stored = clips.views.clone()
    noisy.batch(0)
    assert torch.equal(noisy.views, stored)


def test_an_episode_without_poses_is_named(folders, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "data", "train", SPEC, lossless=True) as writer:
        writer.write(episode(0, 5, posed=False))
    with pytest.raises(VidarError, match=r"^data-train-000000\.tar:e0: has no extra 'pose'[^\n]*$"):
        config(folders, path=str(tmp_path / "data")).build()


def test_a_missing_depth_network_is_refused_before_anything_is_encoded(folders, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Encoding, "read", None)
    with pytest.raises(UsageError, match="nowhere: no depth network there; train one first: vidar train depth_doom"):
        config(folders, depth=str(tmp_path / "nowhere")).build()
    with pytest.raises(UsageError, match="the frames are 32 x 48, the data.points has 32 x 40"):
        config(folders, points=POINTS.replace(width=40)).build()


def walks(folders, past: int) -> Walks:
    sizes = {"points": POINTS, "rays": RAYS, "reach": REACH, "patch": PATCH, "batch": 4}
    return WalksConfig(**folders, **sizes, clip_frames=past + 1).build()


def test_a_step_has_the_motion_of_the_poses_and_the_walls_before_it(clips, folders) -> None:
    """By the name of each sample: its episode, and the frame before the steps whose keys are read."""
    past, made = 4, walks(folders, 4)
    games = {f"e{number}": episode(number, count) for number, count in enumerate(LENGTHS)}
    names = set[str]()
    for index in range(math.ceil(sum(count - past for count in LENGTHS) / 4)):
        batch = made.batch(index)
        for row, name in enumerate(batch.names):
            names.add(name)
            key, start = name.split("@")
            last = int(start) + past
            poses = torch.from_numpy(games[key].extras["pose"])
            moved = torch.cat([torch.zeros(1, 3), motion(poses).float()])  # of the step to each frame
            actions = torch.from_numpy(games[key].actions)
            assert torch.equal(batch.moved[row], moved[last])
            assert torch.equal(batch.actions[row], actions[last - past + 1 : last + 1])
            assert torch.equal(batch.before[row], moved[last - past : last])
            place = sum(LENGTHS[: int(key[1:])]) + last
            assert torch.equal(batch.ranges[row], clips.ranges[place - 1])
    assert len(names) == sum(count - past for count in LENGTHS)  # every step, none across a border


def test_a_first_step_of_an_episode_has_no_motion_before_it(folders) -> None:
    """Frame 0 of an episode has moved nowhere, though the frame stored before it is of another episode."""
    made = walks(folders, 4)
    batches = [made.batch(index) for index in range(4)]
    first = [(batch, row) for batch in batches for row, name in enumerate(batch.names) if name.endswith("@0")]
    assert len({batch.names[row] for batch, row in first}) == 3
    assert all(not batch.before[row, 0].any() for batch, row in first)
