"""The training method: it learns a clip, its losses are what they say, the adversary stays in its half."""

import math

import numpy as np
import torch
from PIL import Image

from vidar.rng import Rng
from vidar.tokenizers.autoencoder import Autoencoder, AutoencoderConfig
from vidar.tokenizers.discriminator import DiscriminatorConfig
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.types import Segment

SMALL = AutoencoderConfig(widths=(16, 32, 32), num_res_blocks=(1, 1, 1), latent_channels=8)


def clip(frames: int = 2, batch: int = 2) -> Segment:
    t = torch.arange(batch * frames).reshape(batch, frames, 1, 1, 1)
    y, x, c = torch.arange(32).reshape(-1, 1, 1), torch.arange(40).reshape(1, -1, 1), torch.arange(3)
    wave = torch.sin((x + 2 * t) / 4) + torch.cos(y / 5 + c) + 0.5 * ((x // 8 + y // 8) % 2)
    video = ((wave + 2) * 50).round().to(torch.uint8)
    number = torch.arange(batch)
    return Segment(video, torch.zeros(batch, frames, 1), torch.ones(batch, frames) > 0, number, ["clip"] * batch)


def rngs(step: int = 0) -> list[Rng]:
    return [Rng(0, 2 * step), Rng(0, 2 * step + 1)]


def test_pixels_round_trip_in_bits():
    video = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16, 1).expand(-1, -1, -1, -1, 3)
    assert torch.equal(to_uint8(to_float(video)), video)
    assert to_float(video).min() == -1 and to_float(video).max() == 1


def test_a_small_autoencoder_learns_a_clip():
    torch.manual_seed(0)
    method = AutoencodeConfig(tokenizer=SMALL).build()
    model, batch = method.build_model(), clip()
    before = method.evaluate(model, batch.video)["psnr"]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(60):
        with torch.autocast("cpu", torch.bfloat16):
            loss = method.step(model, batch, rngs(step))
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = method.evaluate(model, batch.video)
    assert after["psnr"] > before + 6
    assert after["psnr"] > 18
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_the_total_is_the_weighted_sum_and_draws_are_keyed():
    torch.manual_seed(0)
    config = AutoencodeConfig(tokenizer=SMALL, l1=2.0, l2=3.0, structure=0.5, latent_penalty=0.25, latent_noise=0.5)
    method = config.build()
    model, batch = method.build_model(), clip()
    loss = method.step(model, batch, rngs())
    p = loss.parts
    expected = 2 * p["l1"] + 3 * p["l2"] + 0.5 * p["structure"] + 0.25 * p["latent_penalty"]
    assert torch.allclose(loss.total, expected)
    assert math.isclose(p["psnr"].item(), 10 * math.log10(4 / p["l2"].item()), rel_tol=1e-5)
    assert torch.equal(method.step(model, batch, rngs()).total, loss.total)
    assert not torch.equal(method.step(model, batch, rngs(1)).total, loss.total)
    video = to_float(batch.video)
    raw = model.encode_raw(video)[0]
    noise = torch.stack([r.normal("renoise", shape=raw.shape[1:]) for r in rngs()]).to(raw)
    out = model.decode_raw(raw + 0.5 * noise)[0]
    assert torch.allclose(p["l1"], (out - video).abs().mean())
    assert torch.allclose(p["latent_penalty"], raw.square().mean() / 2)


def test_training_tracks_the_statistics_that_measuring_finds():
    torch.manual_seed(0)
    method = AutoencodeConfig(tokenizer=SMALL).build()
    model, batch = method.build_model(), clip()
    with torch.no_grad():
        for _ in range(200):
            model.track_statistics(model.encode_raw(to_float(batch.video[:1, :1]))[0] * 3 + 1, momentum=0.1)
    mean, std = model.measure_statistics([to_float(batch.video[:1, :1])])
    assert torch.allclose(model.latent_mean, (3 * mean + 1).float(), atol=1e-4)
    assert torch.allclose(model.latent_std, (3 * std).float(), rtol=1e-3, atol=1e-4)
    model.set_statistics(torch.zeros(8), torch.ones(8))
    model.eval()
    method.step(model, batch, rngs())
    assert torch.equal(model.latent_mean, torch.zeros(8))
    model.train()
    method.step(model, batch, rngs())
    assert not torch.equal(model.latent_mean, torch.zeros(8))


def test_the_adversary_and_the_autoencoder_do_not_share_gradients():
    torch.manual_seed(0)
    gan = DiscriminatorConfig(width=4, start=0, warmup=1, weight=0.5)
    plain = AutoencodeConfig(tokenizer=SMALL).build()
    method = AutoencodeConfig(tokenizer=SMALL, gan=gan).build()
    pair, batch = method.build_model(), clip()
    model = method.product(pair)
    first = method.step(pair, batch, rngs())
    assert first.parts["gan"] == 0 and pair.discriminator.steps == 1  # the ramp has not begun
    first.total.backward()
    alone = {n: p.grad.clone() for n, p in model.named_parameters()}
    judged = {n: p.grad.clone() for n, p in pair.discriminator.named_parameters()}
    model.zero_grad()
    plain.step(model, batch, rngs()).total.backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, alone[name], atol=1e-7)
    pair.zero_grad()
    second = method.step(pair, batch, rngs())
    second.total.backward()
    assert second.parts["gan"] != 0
    for name, parameter in pair.discriminator.named_parameters():
        assert torch.allclose(parameter.grad, judged[name], atol=1e-7)
    assert any(not torch.allclose(p.grad, alone[n], atol=1e-6) for n, p in model.named_parameters())


def test_adaptive_weight_balances_the_last_layer():
    torch.manual_seed(0)
    gan = DiscriminatorConfig(width=4, start=0, warmup=1, weight=1.0, adaptive=True)
    method = AutoencodeConfig(tokenizer=SMALL, gan=gan).build()
    pair, batch = method.build_model(), clip()
    pair.discriminator.steps += 1
    last = method.product(pair).decoder.head.conv.weight
    plain = AutoencodeConfig(tokenizer=SMALL).build().step(method.product(pair), batch, rngs()).total
    reference = torch.autograd.grad(plain, last)[0]
    both = method.step(pair, batch, rngs())
    gradient = torch.autograd.grad(both.total, last)[0]
    assert torch.allclose((gradient - reference).norm(), reference.norm(), rtol=0.05)


def test_export_and_samples(tmp_path):
    method = AutoencodeConfig(tokenizer=SMALL, gan=DiscriminatorConfig(width=4)).build()
    pair, batch = method.build_model(), clip()
    method.export(pair, tmp_path / "model")
    again = Autoencoder.from_pretrained(tmp_path / "model")
    assert method.evaluate(again, batch.video) == method.evaluate(pair, batch.video)
    method.sample(pair, batch, tmp_path / "step-00000001")
    picture = Image.open(tmp_path / "step-00000001.png")
    assert picture.size == (2 * 40, 2 * 32)
    assert torch.equal(torch.from_numpy(np.array(picture))[:32, :40], batch.video[0, 0])
