"""Training a world's decoder: what moves, what stays, what is written."""

import pytest
import torch

from vidar.configs.doom import world_doom
from vidar.model.load import load, save
from vidar.rng import Rng
from vidar.tokenizers.autoencoder import column
from vidar.tokenizers.discriminator import DiscriminatorConfig
from vidar.tokenizers.pixels import to_float
from vidar.train.dreams import DreamBatch
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.methods.decode import DecodeConfig
from vidar.types import UsageError

WORLD = world_doom(preset="tiny").method.world
LOSSES = AutoencodeConfig(tokenizer=WORLD.tokenizer, texture=0.5, latent_penalty=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    world = WORLD.build()
    world.tokenizer.latent_mean.fill_(0.25)
    world.tokenizer.latent_std.fill_(2.0)
    save(world, path)
    (path / "start.mp4").write_bytes(b"a clip")
    return path


def batch():
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (2, 1, 64, 80, 3), dtype=torch.uint8, generator=generator)
    return DreamBatch(video, torch.randn(2, 8, 1, 8, 10, generator=generator), torch.arange(2), ["a", "b"])


def rngs():
    return [Rng(0, 0), Rng(0, 1)]


def test_only_the_decoder_moves_and_the_world_is_written_with_it(folder, tmp_path):
    method = DecodeConfig(world=str(folder), losses=LOSSES.replace(gan=DiscriminatorConfig(width=4))).build()
    pair = method.build_model()
    before = {name: value.clone() for name, value in pair.autoencoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in pair.parameters() if p.requires_grad], 0.1)
    loss = method.step(pair, batch(), rngs())
    loss.total.backward()
    optimizer.step()
    after = pair.autoencoder.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"decoder"} and loss.parts["texture"] > 0
    method.export(pair, tmp_path / "new")
    new, old = load(tmp_path / "new", dtype=torch.float32), load(folder, dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(new.net.parameters(), old.net.parameters()))
    half = {name: value.to(torch.bfloat16).float() for name, value in after.items()}
    assert all(torch.equal(value, half[name]) for name, value in new.tokenizer.state_dict().items())
    assert new.start is not None and new.start.read_bytes() == b"a clip"


def test_the_loss_is_the_autoencoders_on_latents_as_the_world_has_them(folder):
    method = DecodeConfig(world=str(folder), losses=LOSSES).build()
    model, frames = method.build_model(), batch()
    raw = frames.latents * 2.0 + 0.25
    wanted = LOSSES.build().decoded(model, raw, to_float(frames.video), rngs())
    assert torch.allclose(method.step(model, frames, rngs()).total, wanted.total)
    assert torch.equal(column(model.latent_mean).flatten(), torch.full((8,), 0.25))


def test_another_tokenizer_is_refused(folder):
    losses = LOSSES.replace(tokenizer=WORLD.tokenizer.replace(latent_channels=4))
    with pytest.raises(UsageError, match="has another tokenizer than method.losses.tokenizer"):
        DecodeConfig(world=str(folder), losses=losses).build().build_model()
