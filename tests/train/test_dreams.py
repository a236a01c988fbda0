"""Clips dreamed by a world: which latent stands beside which frame, and that it is the dream of that clip."""

import numpy as np
import pytest
import torch

from vidar.configs.shapes import world_shapes
from vidar.data.reader import episodes
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.model.load import load, save
from vidar.rng import Rng
from vidar.tokenizers.patch import from_sites
from vidar.train.dreams import DreamClipsConfig
from vidar.types import VidarError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(data, world): 2 episodes of 20 shapes frames, and a world of random weights that does something."""
    data, folder = tmp_path_factory.mktemp("shapes"), tmp_path_factory.mktemp("world")
    record(ShapesConfig(frames=20), None, data, episodes=2)
    torch.manual_seed(0)
    world = world_shapes(preset="tiny").method.world.build()
    with torch.no_grad():
        for parameter in world.net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save(world, folder)
    return str(data), str(folder)


def built(folders, **changes):
    config = DreamClipsConfig(path=folders[0], world=folders[1], clips=1, context=3, frames=4, batch=8)
    return config.replace(**changes).build()


def origin(name):
    """SHARD:EPISODE@START+FRAME -> (episode, start, frame)."""
    episode, _, rest = name.partition(":")[2].partition("@")
    start, _, frame = rest.partition("+")
    return episode, int(start), int(frame)


def test_frames_and_encoded_latents_are_those_of_the_recording(folders):
    clips, world = built(folders, share=0.0), load(folders[1])
    recorded = {episode.name: episode for episode in episodes(folders[0], "train", extras=())}
    batch = clips.batch(0)
    for video, latent, name in zip(batch.video, batch.latents, batch.names):
        episode, start, frame = origin(name)
        wanted = torch.from_numpy(np.ascontiguousarray(recorded[episode].frames[start + frame]))
        assert torch.equal(video[0], wanted)
        code = world.encode(wanted[None, None])[0]
        assert torch.allclose(from_sites(code, (1, 4, 4), 1)[0], latent, atol=0.05)  # bf16 where it is fast


def test_dreamed_latents_are_the_worlds_own(folders):
    """Each clip rolled out alone, with the noise of its number: the clips are numbered as the loader counts them."""
    clips, world = built(folders, share=1.0), load(folders[1])
    recorded = {episode.name: episode for episode in episodes(folders[0], "train", extras=())}
    order = list(dict.fromkeys(name.partition("+")[0] for name in clips.names))
    assert len(clips.names) == len(clips.frames) == 32 * 4
    for number, clip in enumerate(order[:3]):
        episode, start, _ = origin(clip + "+0")
        frames = torch.from_numpy(np.ascontiguousarray(recorded[episode].frames[start : start + 7]))[None]
        actions = torch.from_numpy(recorded[episode].actions[start : start + 7])[None]
        codes = world.encode(frames[:, :3])
        made = world.codes(codes, iter(actions[:, 3:].unbind(1)), actions[:, :3], [Rng(0, number)])
        for t, code in enumerate(made):
            found = clips.latents[1, 4 * number + t]
            assert torch.allclose(from_sites(code, (1, 4, 4), 1)[0, :, 0], found, atol=0.1)
    assert (clips.latents[0] - clips.latents[1]).abs().mean() > 0.2


def test_an_epoch_holds_every_frame_once_and_a_batch_is_a_function_of_its_index(folders):
    clips = built(folders, batch=16)
    epoch = [clips.batch(index) for index in range(8)]
    assert sorted(name for batch in epoch for name in batch.names) == sorted(clips.names)
    assert [n for batch in epoch for n in batch.number.tolist()] == list(range(128))
    again, other = built(folders, batch=16).batch(5), clips.batch(13)
    assert again.names == epoch[5].names and torch.equal(again.latents, epoch[5].latents)
    assert other.names != epoch[5].names


def test_share_is_the_share_of_dreamed_latents(folders):
    clips = built(folders, batch=128, share=0.25)
    batch = clips.batch(0)
    theirs, own = (clips.latents[kind].flatten(1) for kind in (0, 1))
    dreamed = [bool((own == latent.flatten()).all(1).any()) for latent in batch.latents]
    encoded = [bool((theirs == latent.flatten()).all(1).any()) for latent in batch.latents]
    assert [not d for d in dreamed] == encoded
    assert abs(sum(dreamed) / 128 - 0.25) < 4 * (0.25 * 0.75 / 128) ** 0.5


def test_data_of_another_game_is_refused(folders, tmp_path):
    torch.manual_seed(0)
    config = world_shapes(preset="tiny").method.world
    spec = config.actions.replace(actions=config.actions.actions[:-1])
    net = config.net.replace(conditioner=config.net.conditioner.replace(spec=spec))
    save(config.replace(actions=spec, net=net).build(), tmp_path)
    with pytest.raises(VidarError, match="its actions differ from those of world"):
        built((folders[0], str(tmp_path)))
