"""Dreams of a world with a memory: it walks along the recorded poses, and what its memory showed comes along."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidar.cache.points import Frame
from vidar.configs.doom import ACTIONS, world_doom
from vidar.configs.memory_forcing import PATCH, POINTS, world_doom_memory
from vidar.data.episode import Episode
from vidar.data.shards import ShardWriter
from vidar.model.geometry import filled, marked
from vidar.model.load import load, save
from vidar.model.model import VideoModel
from vidar.tokenizers.patch import to_sites
from vidar.train.remembered_dreams import RememberedDreams, RememberedDreamsConfig
from vidar.types import UsageError

COUNT, KNOWN, FRAMES = 4, 5, 6


def episode(number: int) -> Episode:
    """20 frames of blurred noise that moves a little, of a player who turns and walks."""
    rng = np.random.default_rng(number)
    picture = rng.integers(0, 256, (8, 10, 3)).repeat(8, 0).repeat(8, 1)
    frames = np.stack([np.roll(picture, 2 * t, 1) for t in range(20)]).astype(np.uint8)
    actions = rng.integers(0, 2, (20, ACTIONS.width)).astype(np.float32)
    actions[0] = 0
    steps = np.arange(20, dtype=np.float32)
    pose = np.stack([3 * steps, -steps, 0 * steps, 4 * steps + number], 1)
    return Episode(frames, actions, 17.5, ACTIONS, f"e{number}", "room", {"pose": pose})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("dreams")
    with ShardWriter(place / "data", "train", ACTIONS, lossless=True) as writer:
        for number in range(2):
            writer.write(episode(number))
    torch.manual_seed(0)
    config = world_doom_memory(preset="tiny").method.world
    assert config.memory is not None
    world = VideoModel(config, config.tokenizer.build(), config.net.build(), memory=config.memory.build())
    torch.nn.init.normal_(world.net.backbone.head.out.weight, std=0.1)
    save(world, place / "world", torch.float32)
    world.memory.depth.save_pretrained(place / "depth")
    plain = world_doom(preset="tiny").method.world.build()
    save(plain, place / "plain", torch.float32)
    return {"path": f"{place}/data", "tokenizer": f"{place}/world/tokenizer", "depth": f"{place}/depth"}


def config(folders: dict[str, str], world: str = "world", **changes: object) -> RememberedDreamsConfig:
    sizes = {"points": POINTS, "patch": PATCH, "clip_frames": COUNT, "batch": 8, "dreams": 3, "known": KNOWN}
    sizes |= {"frames": FRAMES, "aligned": 1e9, "share": 1.0, "blind": 0.0, "noise": 0.0}
    return RememberedDreamsConfig(**(folders | sizes | {"world": folders["path"][:-4] + world} | changes))


@pytest.fixture(scope="module")
def clips(folders) -> RememberedDreams:
    return config(folders).build()


def test_the_first_frame_is_shown_the_context_from_its_recorded_pose(clips, folders) -> None:
    """A cloud of the decoded context at the true poses, drawn at the pose of the frame, by hand."""
    world = load(folders["path"][:-4] + "world")
    for dream, places in enumerate(clips._places()):
        codes, poses = clips.codes[places].float(), clips.pose[places]
        pictures = world.decode(codes[None, :KNOWN])[0][0]
        points, recent = POINTS.build(), ()
        for picture, pose in zip(pictures, poses):
            drawn = points.draw(pose, recent)
            with torch.inference_mode():
                recent = (Frame(picture, world.memory.depth(picture[None])[0], pose),)
            points = points.add(recent[0]) if points.lacks(drawn) else points
        drawn = points.draw(poses[KNOWN], recent)
        shown = world.encode(filled(drawn.colour, drawn.seen)[None, None])[0, 0]
        beside = to_sites(marked(drawn)[None, :, None], PATCH)[0]
        found = clips.dreamed[dream, COUNT - 1].float()
        torch.testing.assert_close(found, torch.cat([shown, beside], -1), rtol=0.02, atol=0.02)


def test_a_batch_has_the_views_of_its_dreams_and_true_targets(clips) -> None:
    batch, again = clips.batch(3), clips.batch(3)
    assert batch.views is not None and batch.seen is not None and again.views is not None
    assert torch.equal(batch.views, again.views) and torch.equal(batch.seen, again.seen)
    for row, name in enumerate(batch.names):
        dream, begin = map(int, name.removeprefix("dream ").split("@"))
        span = slice(begin, begin + COUNT)
        assert torch.equal(batch.views[row], clips.dreamed[dream, span].float())
        assert torch.equal(batch.seen[row], clips.seen[dream, span])
        assert torch.equal(batch.codes[row], clips.codes[clips.places[dream, span]])


def test_without_dreams_it_is_what_a_memory_shows_of_data(folders) -> None:
    plain = config(folders, share=0.0).build().batch(0)
    assert plain.views is not None and plain.seen is not None
    assert torch.equal(plain.seen, plain.codes)


def test_a_world_without_a_memory_is_refused(folders) -> None:
    with pytest.raises(UsageError, match="has no memory; give a world with one"):
        config(folders, "plain").build()
