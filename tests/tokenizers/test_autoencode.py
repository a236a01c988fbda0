"""The training method: it learns a clip, its losses are what they say, the adversary stays in its half."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vidar.check import check_training
from vidar.data.loader import ClipsConfig
from vidar.data.record import record
from vidar.data.synthetic import ShapesConfig
from vidar.rng import Rng
from vidar.tokenizers.autoencoder import Autoencoder, AutoencoderConfig
from vidar.tokenizers.discriminator import DiscriminatorConfig
from vidar.tokenizers.multi_scale import MultiScaleConfig
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoderConfig
from vidar.tokenizers.schedules import still
from vidar.tokenizers.vq import VQConfig
from vidar.train.config import TrainConfig
from vidar.train.memory import training_bytes
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.train.optim import OptimConfig
from vidar.types import Segment, UsageError

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
    noise = torch.stack([r.normal("latent_noise", shape=raw.shape[1:]) for r in rngs()]).to(raw)
    out = model.decode_raw(raw + 0.5 * noise)[0]
    assert torch.allclose(p["l1"], (out - video).abs().mean())
    assert torch.allclose(p["latent_penalty"], raw.square().mean() / 2)


def test_training_tracks_the_statistics_of_the_latents():
    torch.manual_seed(0)
    method = AutoencodeConfig(tokenizer=SMALL).build()
    model, batch = method.build_model(), clip()
    with torch.no_grad():
        for _ in range(200):
            model.track_statistics(model.encode_raw(to_float(batch.video[:1, :1]))[0] * 3 + 1, momentum=0.1)
        raw = model.encode_raw(to_float(batch.video[:1, :1]))[0].transpose(0, 1).flatten(1).double()
    mean, std = raw.mean(dim=1), raw.std(dim=1, correction=0)
    assert torch.allclose(model.latent_mean, (3 * mean + 1).float(), atol=1e-4)
    assert torch.allclose(model.latent_std, (3 * std).float(), rtol=1e-3, atol=1e-4)
    model.latent_mean.zero_()
    model.latent_std.fill_(1)
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


def test_both_adversaries_have_their_own_weight_and_reach_their_own_half():
    torch.manual_seed(0)
    image = DiscriminatorConfig(width=4, start=0, warmup=1, weight=0.5)
    clips = DiscriminatorConfig(width=4, start=0, warmup=1, weight=2.0, lecam=0.1, r1=0.1)
    config = AutoencodeConfig(tokenizer=SMALL, gan=image, video_gan=clips)
    pair, batch = config.build().build_model(), clip(frames=3)
    pair.discriminator.steps += 1
    pair.video_discriminator.steps += 1

    def gradients(method):
        pair.zero_grad()
        loss = method.build().step(pair, batch, rngs())
        loss.total.backward()
        return loss.parts, {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in pair.named_parameters()}

    parts, both = gradients(config)
    video = to_float(batch.video)
    out = pair.autoencoder.decode_raw(pair.autoencoder.encode_raw(video)[0])[0]
    quiet = config.replace(latent_noise=0.0).build().step(pair, batch, rngs()).parts
    assert torch.allclose(quiet["gan"], -0.5 * pair.discriminator(out).mean(), atol=1e-6)
    assert torch.allclose(quiet["video_gan"], -2.0 * pair.video_discriminator(out).mean(), atol=1e-6)
    assert parts.keys() >= {"gan", "adversary", "video_gan", "video_adversary", "video_lecam"}
    deaf = [config.replace(**{key: None}) for key in ("video_gan", "gan")]
    kept = pair.discriminator, pair.video_discriminator
    alone = []
    for method, judges in zip(deaf, ((kept[0], None), (None, kept[1]))):
        pair.discriminator, pair.video_discriminator = judges
        alone.append(gradients(method)[1])
    pair.discriminator, pair.video_discriminator = None, None
    plain = gradients(config)[1]
    assert all(gradient.abs().sum() > 0 for name, gradient in both.items() if "layers.0.weight" in name)
    for name, gradient in both.items():
        if name.startswith("discriminator"):
            assert torch.allclose(gradient, alone[0][name], atol=1e-7)
        elif name.startswith("video_discriminator"):
            assert torch.allclose(gradient, alone[1][name], atol=1e-7)
        else:  # the two terms add up
            want = alone[0][name] + alone[1][name] - plain[name]
            assert torch.allclose(gradient, want, atol=1e-6)
    assert any(not torch.allclose(alone[0][name], alone[1][name], atol=1e-5) for name in plain)


def test_frames_of_a_clip_are_judged_one_by_one():
    torch.manual_seed(0)
    gan = DiscriminatorConfig(width=4, start=0, warmup=1)
    method = AutoencodeConfig(tokenizer=SMALL, gan=gan, latent_noise=0.0).build()
    pair, batch = method.build_model(), clip(frames=3, batch=1)
    whole = method.step(pair, batch, rngs()[:1]).parts["adversary"]
    frames = [replace(batch, video=batch.video[:, t : t + 1]) for t in range(3)]
    singly = [method.step(pair, frame, rngs()[:1]).parts["adversary"] for frame in frames]
    assert torch.allclose(whole, torch.stack(singly).mean())


def test_clips_that_are_too_short_are_refused_before_training(tmp_path):
    config = AutoencodeConfig(tokenizer=SMALL, video_gan=DiscriminatorConfig(width=4))
    pair = config.build().build_model()
    one = r"^video_gan judges clips, but data.clip_frames is 1; set data.clip_frames=2 or more, or video_gan=null$"
    with pytest.raises(UsageError, match=one):
        config.build().step(pair, clip(frames=1), rngs())
    record(ShapesConfig(), None, tmp_path, episodes=1, frames=8)
    data = ClipsConfig(path=str(tmp_path), clip_frames=1, batch=2)
    run = TrainConfig(name="t", method=config, data=data, optim=OptimConfig(lr=1e-3, steps=1))
    with pytest.raises(UsageError, match=one):
        check_training(run)
    check_training(run.replace(data=data.replace(clip_frames=2)))
    slow = config.replace(tokenizer=SMALL.replace(time_stride=4, time_kernel=3))
    with pytest.raises(UsageError, match="clip_frames is 1; set data.clip_frames=5 or more, or video_gan=null"):
        check_training(run.replace(method=slow))
    six = run.replace(method=slow, data=data.replace(clip_frames=6))
    with pytest.raises(UsageError, match="clip_frames is 6, which does not fit tokenizer.time_stride 4; use 5 or 9"):
        check_training(six)


def test_memory_of_both_adversaries_is_estimated_without_storage(tmp_path):
    record(ShapesConfig(), None, tmp_path, episodes=1, frames=8)
    judge = DiscriminatorConfig(width=4, r1=1.0, lecam=1.0)
    pyramids = PyramidAutoencoderConfig(
        autoencoder=SMALL.replace(latent_channels=4),
        pyramid=MultiScaleConfig(quantiser=VQConfig(channels=4, size=8, decay=0.9), sizes=still(((1, 1), (4, 4)))),
    )
    totals = []
    for config in (
        AutoencodeConfig(tokenizer=pyramids),
        AutoencodeConfig(tokenizer=pyramids, gan=judge, video_gan=judge),
    ):
        data = ClipsConfig(path=str(tmp_path), clip_frames=5, batch=2)
        run = TrainConfig(name="t", method=config, data=data, optim=OptimConfig(lr=1e-3, steps=1))
        found = training_bytes(run)
        trained = sum(p.numel() for p in config.build().build_model().parameters())
        assert found["states"] == 20 * trained
        totals.append(found["activations"])
    assert 0 < totals[0] < totals[1]


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
