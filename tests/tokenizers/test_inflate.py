"""A video tokenizer made of an image tokenizer: the same image, frame by frame the same, streaming; refusals."""

import pytest
import torch

from vidar.tokenizers.autoencoder import AutoencoderConfig
from vidar.tokenizers.bsq import BSQConfig
from vidar.tokenizers.inflate import every_frame, inflate, last_tap
from vidar.tokenizers.multi_scale import MultiScaleConfig
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoderConfig
from vidar.tokenizers.resample import Up
from vidar.tokenizers.schedules import still
from vidar.tokenizers.stream import Stream
from vidar.train.methods.autoencode import AutoencodeConfig
from vidar.types import Codes, UsageError

STRIDES = [1, 2, 4, 8]
IMAGE = AutoencoderConfig(
    widths=(4, 8, 8, 16), num_res_blocks=(1, 0, 1, 1), latent_channels=3, time_kernel=1, time_stride=1
)


def filled(model):
    """Nothing is zero, or it is not tested."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def pair(time_stride):
    image = filled(IMAGE.build())
    image.latent_mean.copy_(torch.tensor([0.1, -0.2, 0.3]))
    image.latent_std.copy_(torch.tensor([0.5, 1.5, 2.0]))
    torch.manual_seed(1)
    video = IMAGE.replace(time_kernel=3, time_stride=time_stride).build().double().eval()
    inflate(image, video)
    return image, video


def clip(frames):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, frames, 16, 24, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("time_stride", STRIDES)
@torch.no_grad()
def test_an_image_is_what_it_was(time_stride):
    image, video = pair(time_stride)
    still_frame = clip(1)
    old, new = image.encode(still_frame)[0], video.encode(still_frame)[0]
    assert (old.data - new.data).abs().max() < 1e-11
    assert (image.decode_raw(old.data)[0] - video.decode_raw(old.data)[0]).abs().max() < 1e-11
    assert image.decode_raw(old.data)[0].std() > 0.1


@torch.no_grad()
def test_repeating_the_kernel_of_an_upsampling_is_not_enough():
    image, video = pair(8)
    for old, new in zip(image.decoder.layers, video.decoder.layers):
        if isinstance(new, Up):
            new.conv.conv.weight.copy_(last_tap(old.conv.conv.weight.repeat(2, 1, 1, 1), 3))
    latent = image.encode(clip(1))[0].data
    assert (image.decode_raw(latent)[0] - video.decode_raw(latent)[0]).abs().max() > 1e-2


@torch.no_grad()
def test_without_stride_every_video_is_what_it_was():
    image, video = pair(1)
    old, new = image.encode(clip(5))[0], video.encode(clip(5))[0]
    assert (old.data - new.data).abs().max() < 1e-11
    assert (image.decode(old)[0] - video.decode(new)[0]).abs().max() < 1e-11


@pytest.mark.parametrize("time_stride", STRIDES[1:])
@torch.no_grad()
def test_every_latent_is_painted_as_its_image(time_stride):
    """Each of the frames of a latent is the image of that latent; a static video has the latents of its image."""
    image, video = pair(time_stride)
    static = clip(1).expand(-1, -1, 1 + 2 * time_stride, -1, -1)
    assert (video.encode(static)[0].data - image.encode(clip(1))[0].data).abs().max() < 1e-11
    latents = image.encode(clip(3))[0].data
    frames = image.decode_raw(latents)[0]
    want = torch.cat([frames[:, :, :1], frames[:, :, 1:].repeat_interleave(time_stride, dim=2)], dim=2)
    assert (video.decode_raw(latents)[0] - want).abs().max() < 1e-11


@pytest.mark.parametrize("time_stride", STRIDES)
@torch.no_grad()
def test_streaming_equals_the_whole_clip(time_stride):
    _, model = pair(time_stride)
    for parameter in model.parameters():  # as after some training: the past is read
        parameter.add_(0.05 * torch.randn_like(parameter))
    video = clip(1 + 3 * time_stride)
    whole, state, parts, start = model.encode(video)[0].data, None, [], 0
    for size in (1, time_stride, 2 * time_stride):
        codes, state = model.encode(video[:, :, start : start + size], state)
        parts.append(codes.data)
        start += size
    assert (torch.cat(parts, dim=2) - whole).abs().max() < 1e-11
    state, parts = None, []
    for t in range(whole.shape[2]):
        part, state = model.decode_raw(whole[:, :, t : t + 1], state)
        parts.append(part)
    assert (torch.cat(parts, dim=2) - model.decode_raw(whole)[0]).abs().max() < 1e-11


@pytest.mark.parametrize("channels_in, channels_out", [(8, 8), (16, 4), (8, 16), (4, 16)])
@pytest.mark.parametrize("factor", [2, 4])
@torch.no_grad()
def test_one_upsampling_at_any_widths(channels_in, channels_out, factor):
    torch.manual_seed(0)
    image, video = (Up(channels_in, channels_out, "up", 1, f).double() for f in (1, factor))
    video.conv.conv.weight.copy_(every_frame(image.conv.conv.weight, factor))
    video.conv.conv.bias.copy_(image.conv.conv.bias.repeat(factor))
    x = torch.randn(2, 3, 4, 5, channels_in, dtype=torch.float64)
    want = image(x, Stream(None))
    found = video(x, Stream(None))
    assert (found - torch.cat([want[:, :1], want[:, 1:].repeat_interleave(factor, 1)], 1)).abs().max() < 1e-13


def pyramids(time_kernel=1, time_stride=1):
    autoencoder = AutoencoderConfig(
        widths=(8, 8, 8), latent_channels=4, time_kernel=time_kernel, time_stride=time_stride
    )
    scales = MultiScaleConfig(quantiser=BSQConfig(channels=4), sizes=still(((1, 1), (2, 3))))
    return PyramidAutoencoderConfig(autoencoder=autoencoder, pyramid=scales)


@torch.no_grad()
def test_training_starts_from_an_image_tokenizer(tmp_path):
    plain, quantised = filled(pyramids().autoencoder.build()).float(), filled(pyramids().build()).float()
    plain.save_pretrained(tmp_path / "plain")
    quantised.save_pretrained(tmp_path / "pyramids")
    frame = clip(1).float()
    want = pyramids(3, 4)
    begun = AutoencodeConfig(tokenizer=want.autoencoder, start=str(tmp_path / "plain")).build().build_model()
    assert torch.allclose(begun.encode(frame)[0].data, plain.encode(frame)[0].data, atol=1e-4)
    inner = AutoencodeConfig(tokenizer=want, start=str(tmp_path / "plain")).build().build_model()
    assert torch.allclose(inner.autoencoder.encode(frame)[0].data, plain.encode(frame)[0].data, atol=1e-4)
    whole = AutoencodeConfig(tokenizer=want, start=str(tmp_path / "pyramids")).build().build_model()
    assert torch.allclose(whole.latents(frame)[0].data, quantised.latents(frame)[0].data, atol=1e-4)
    sums = Codes("latent", quantised.encode(frame)[0].data)
    assert torch.allclose(whole.decode(sums)[0], quantised.decode(sums)[0], atol=1e-4)
    assert want.image() == pyramids() and torch.equal(whole.scale, quantised.scale)


def test_what_cannot_be_inflated_is_refused_in_one_line(tmp_path):
    pyramids(1, 1).autoencoder.build().save_pretrained(tmp_path / "image")
    pyramids(3, 1).autoencoder.build().save_pretrained(tmp_path / "video")
    pyramids(1, 1).build().save_pretrained(tmp_path / "pyramids")
    want = pyramids(3, 2)
    wider = want.autoencoder.replace(widths=(8, 8, 16))
    bits = want.replace(pyramid=want.pyramid.replace(p_drop=0.5))
    coarse = want.replace(autoencoder=want.autoencoder.replace(space_stride=16))
    for name, tokenizer, why in (
        (
            "image",
            wider,
            r": its widths is \(8, 8, 8\), not \(8, 8, 16\); start from one with the same config, or with ",
        ),
        (
            "video",
            want.autoencoder,
            ": its time_stride is 1, not 2; .* or with time_kernel 1, time_stride 1 and otherwise the",
        ),
        ("pyramids", bits, ": its pyramid.p_drop is 0.0, not 0.5; "),
        ("pyramids", coarse, ": its autoencoder.space_stride is 8, not 16; "),
        ("pyramids", want.autoencoder, ", but a PyramidAutoencoder; "),
    ):
        folder = str(tmp_path / name)
        with pytest.raises(UsageError, match=f"^{folder}: does not fit the tokenizer of this run{why}") as error:
            AutoencodeConfig(tokenizer=tokenizer, start=folder).build().build_model()
        assert "\n" not in str(error.value)
