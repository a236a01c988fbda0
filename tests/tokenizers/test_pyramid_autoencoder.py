"""A quantised tokenizer: streaming, round trip through labels, gradients, refusals."""

import pytest
import torch

from vidar.nn.pretrained import load_component
from vidar.rng import Rng
from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.tokenizers.bsq import BSQConfig
from vidar.tokenizers.multi_scale import MultiScaleConfig
from vidar.tokenizers.patch import to_sites
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoderConfig
from vidar.tokenizers.schedules import still
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.types import Codes, UsageError

SIDES = ((1, 1), (2, 3), (4, 5))


def config(bits=4, fold=1, sides=SIDES, **changes):
    autoencoder = AutoencoderConfig(widths=(8, 8, 8), latent_channels=4, space_stride=8, time_stride=1)
    pyramid = MultiScaleConfig(quantiser=BSQConfig(channels=bits), sizes=still(sides), **changes)
    return PyramidAutoencoderConfig(autoencoder=autoencoder, pyramid=pyramid, fold=fold)


def built(**changes):
    torch.manual_seed(0)
    model = config(**changes).build()
    with torch.no_grad():
        model.scale.fill_(1.7)
    return model.eval()


def video(frames=3):
    return torch.rand(2, 3, frames, 32, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_codes_are_sums_of_label_codes_and_frames_are_alone():
    model = built()
    whole, labels = model.encode(video())[0].data, model.labels(video())
    assert [tuple(part.shape) for part in labels] == [(2, 3, h, w, 4) for h, w in SIDES]
    for t in range(3):
        assert torch.equal(model.pyramid.decode([part[:, t : t + 1] for part in labels]), whole[:, :, t : t + 1])
    state, parts = None, []
    for t in range(3):
        codes, state = model.encode(video()[:, :, t : t + 1], state)
        parts.append(codes.data)
    assert torch.equal(torch.cat(parts, 2), whole)


@torch.no_grad()
def test_the_scale_is_taken_back_before_decoding():
    model = built()
    latents = model.latents(video())[0].data
    plain = model.autoencoder.encode(video())[0].data
    assert torch.allclose(latents, 1.7 * plain)
    assert torch.allclose(
        model.decode(Codes("latent", latents))[0], model.autoencoder.decode(Codes("latent", plain))[0], atol=1e-5
    )


def test_training_sees_what_play_sees_and_every_weight_learns():
    model = built().train()
    with torch.no_grad():
        for parameter in model.autoencoder.parameters():  # some start at zero
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.autoencoder.latent_mean.fill_(0.3)
        model.autoencoder.latent_std.fill_(0.5)
    raw, _ = model.encode_raw(video())
    through, loss = model.quantised_raw(raw, [Rng(0, 1), Rng(0, 2)], True)
    codes = model.encode(video())[0].data
    assert torch.allclose((through - 0.3) / 0.5 * 1.7, codes, atol=1e-5)
    (model.decode_raw(through)[0].square().mean() + loss.total).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent, f"no gradient reaches {silent}"


def test_it_is_saved_and_read_whole(tmp_path):
    model = built()
    model.save_pretrained(tmp_path)
    again = load_component(tmp_path)
    assert again.config == model.config and torch.equal(again.encode(video())[0].data, model.encode(video())[0].data)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="the quantiser has 6 channels, but the latents have 4"):
        config(bits=6)
    with pytest.raises(UsageError, match="every scale must have t = 1"):
        PyramidAutoencoderConfig(
            autoencoder=config().autoencoder,
            pyramid=MultiScaleConfig(quantiser=BSQConfig(channels=4), sizes=((1, 1, 1), (2, 4, 5))),
        )


def test_a_step_is_estimated_without_storage():
    """What the memory estimate of a training run does: the whole way on meta tensors, under autocast."""
    with torch.device("meta"):
        model = config().build().train()
    raw = torch.empty(2, 4, 3, 4, 5, device="meta")
    with torch.autocast("cpu", torch.bfloat16):
        through, loss = model.quantised_raw(raw, [Rng(0, 1), Rng(0, 2)], True)
    assert through.shape == raw.shape and loss.total.is_meta


@torch.no_grad()
def test_folded_latents_are_patches_of_the_autoencoder_s():
    model = built(bits=16, fold=2, sides=((1, 1), (2, 2)))
    frames = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents, plain = model.latents(frames)[0].data, model.autoencoder.encode(frames)[0].data
    sites = to_sites(plain, 2).unflatten(1, (3, 2, 2)).movedim(-1, 1)
    assert torch.equal(latents, 1.7 * sites) and model.grid_shape(3, 32, 32) == (3, 2, 2)
    assert model.config.space_stride == 16 and model.config.latent_channels == 16
    assert torch.allclose(
        model.decode(Codes("latent", latents))[0], model.autoencoder.decode(Codes("latent", plain))[0], atol=1e-5
    )
    raw, _ = model.encode_raw(frames)
    through, _ = model.quantised_raw(raw, [Rng(0, 1), Rng(0, 2)], False)
    assert torch.allclose(
        model.decode_raw(through)[0].clamp(-1, 1), model.decode(model.encode(frames)[0])[0], atol=1e-5
    )
    with pytest.raises(
        UsageError, match="latents of 4x3 cannot be folded by 2; height and width must be multiples of 16"
    ):
        model.grid_shape(1, 32, 24)


@torch.no_grad()
def test_training_starts_from_a_plain_tokenizer_or_one_of_its_kind(tmp_path):
    plain, pyramids = config().autoencoder.build(), built()
    plain.save_pretrained(tmp_path / "plain")
    pyramids.save_pretrained(tmp_path / "pyramids")
    begun = AutoencodeConfig(tokenizer=config(), start=str(tmp_path / "plain")).build().build_model()
    assert torch.equal(begun.autoencoder.encode(video())[0].data, plain.eval().encode(video())[0].data)
    again = AutoencodeConfig(tokenizer=config(), start=str(tmp_path / "pyramids")).build().build_model()
    assert torch.equal(again.encode(video())[0].data, pyramids.encode(video())[0].data)
    with pytest.raises(UsageError, match="plain: does not fit the tokenizer of this run"):
        other = config(bits=16, fold=2).replace(autoencoder=config().autoencoder.replace(widths=(8, 8, 16)))
        AutoencodeConfig(tokenizer=other, start=str(tmp_path / "plain")).build().build_model()
