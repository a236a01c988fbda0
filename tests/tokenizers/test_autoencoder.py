"""Streaming equals one pass, causality in bits, sizes, state, statistics and storage of the autoencoder."""

import copy
import json

import pytest
import torch

from vidar.config import from_dict, to_dict
from vidar.tokenizers.autoencoder import Autoencoder, AutoencoderConfig
from vidar.tokenizers.causal_conv import ResBlock
from vidar.tokenizers.stream import Stream
from vidar.types import Codes, UsageError, VidarError

SIZES = [(1, 8), (2, 8), (4, 8), (8, 8), (1, 16), (4, 16), (8, 16)]  # time stride, space stride


def tiny(time_stride: int = 4, space_stride: int = 8, time_kernel: int = 3) -> Autoencoder:
    config = AutoencoderConfig(
        widths=(4, 8, 8, 16),
        num_res_blocks=(1, 0, 0, 1),
        latent_channels=3,
        time_stride=time_stride,
        space_stride=space_stride,
        time_kernel=time_kernel,
    )
    torch.manual_seed(0)
    model = config.build().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # residual branches start at zero: fill them, or they are not tested
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.latent_mean.copy_(torch.tensor([0.1, -0.2, 0.3]))
    model.latent_std.copy_(torch.tensor([0.5, 1.5, 2.0]))
    return model


def clip(frames: int, space_stride: int = 8, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, 3, frames, 2 * space_stride, 3 * space_stride)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


def in_chunks(call, whole: torch.Tensor, sizes: list[int]):
    state, parts, start = None, [], 0
    for size in sizes:
        part, state = call(whole[:, :, start : start + size], state)
        parts.append(part)
        start += size
    assert start == whole.shape[2]
    return torch.cat(parts, dim=2), state


def encode(model):
    def call(video, state):
        codes, state = model.encode(video, state)
        return codes.data, state

    return call


def decode(model):
    return lambda latent, state: model.decode_raw(latent, state)  # without the clamp, which would hide differences


@pytest.mark.parametrize("time_stride, space_stride", SIZES)
@torch.no_grad()
def test_chunks_equal_one_pass(time_stride, space_stride):
    model, tau = tiny(time_stride, space_stride), time_stride
    video = clip(1 + 4 * tau, space_stride)
    whole = model.encode(video)[0].data
    assert whole.shape == (2, 3, 5, 2, 3)
    for counts in ([1, 1, 1, 1, 1], [3, 2], [1, 4], [2, 1, 2]):
        frames = [1 + tau * (counts[0] - 1), *(tau * n for n in counts[1:])]
        chunked, _ = in_chunks(encode(model), video, frames)
        assert (chunked - whole).abs().max() < 1e-12
    out = model.decode_raw(whole)[0]
    assert out.shape == video.shape
    for counts in ([1, 1, 1, 1, 1], [3, 2], [1, 4]):
        chunked, _ = in_chunks(decode(model), whole, counts)
        assert (chunked - out).abs().max() < 1e-12


@torch.no_grad()
def test_chunks_differ_when_the_state_is_dropped():
    model = tiny(1)
    video = clip(5)
    whole = model.encode(video)[0].data
    restarted = model.encode(video[:, :, 3:])[0].data
    assert (whole[:, :, 3:] - restarted).abs().max() > 1e-3


@pytest.mark.parametrize("time_stride", [1, 2, 4, 8])
@torch.no_grad()
def test_the_future_does_not_change_the_past_in_bits(time_stride):
    model, tau = tiny(time_stride).float(), time_stride
    video = clip(1 + 3 * tau).float()
    other = video.clone()
    other[:, :, 1 + tau :] = -other[:, :, 1 + tau :]
    a, b = model.encode(video)[0].data, model.encode(other)[0].data
    assert torch.equal(a[:, :, :2], b[:, :, :2])
    assert not torch.equal(a[:, :, 2], b[:, :, 2])
    x, y = model.decode_raw(a)[0], model.decode_raw(b)[0]
    assert torch.equal(x[:, :, : 1 + tau], y[:, :, : 1 + tau])
    assert not torch.equal(x[:, :, 1 + tau :], y[:, :, 1 + tau :])


@pytest.mark.parametrize("time_kernel", [1, 3])
@torch.no_grad()
def test_an_image_is_the_first_frame_of_a_video(time_kernel):
    model = tiny(4, 8, time_kernel)
    video = clip(9)
    whole, image = model.encode(video)[0], model.encode(video[:, :, :1])[0]
    assert (whole.data[:, :, :1] - image.data).abs().max() < 1e-12
    assert (model.decode(whole)[0][:, :, :1] - model.decode(image)[0]).abs().max() < 1e-12


@torch.no_grad()
def test_a_static_video_looks_like_its_image():
    model = tiny(1)
    still = clip(1)
    codes = model.encode(still.expand(-1, -1, 5, -1, -1))[0].data
    assert (codes - codes[:, :, :1]).abs().max() < 1e-12  # the past of the first frame is the first frame


@torch.no_grad()
def test_without_time_kernel_frames_are_independent():
    model = tiny(1, 8, 1)
    video = clip(4)
    codes = model.encode(video)[0].data
    turned = model.encode(video.flip(2))[0].data.flip(2)
    assert (codes - turned).abs().max() < 1e-12


@torch.no_grad()
def test_the_norm_does_not_mix_time():
    block = ResBlock(8, "block", time_kernel=1).double()
    torch.nn.init.normal_(block.conv_out.conv.weight)
    x = torch.randn(1, 3, 4, 4, 8, dtype=torch.float64)
    louder = x * torch.tensor([1.0, 1.0, 100.0]).reshape(1, 3, 1, 1, 1)
    assert torch.equal(block(x, Stream(None))[:, :2], block(louder, Stream(None))[:, :2])


@torch.no_grad()
def test_a_state_forks_and_is_not_written_into():
    model = tiny(2)
    video = clip(9)
    _, state = model.encode(video[:, :, :3])
    kept = copy.deepcopy(state)
    left = model.encode(video[:, :, 3:5], state)[0].data
    right = model.encode(video[:, :, 5:7], state)[0].data
    assert not torch.equal(left, right)
    assert torch.equal(model.encode(video[:, :, 3:5], state)[0].data, left)
    assert torch.equal(model.encode(video[:, :, 3:5], kept)[0].data, left)


@torch.no_grad()
def test_the_size_of_a_state_does_not_depend_on_length():
    model = tiny(1)
    sizes = []
    for frames in (1, 2, 9):
        past = model.encode(clip(frames))[1]["past"]
        sizes.append(sum(v.untyped_storage().nbytes() for v in past.values()))
    assert sizes[0] == sizes[1] == sizes[2]


def test_foreign_states_are_refused():
    model = tiny(1)
    codes, state = model.encode(clip(2))
    with pytest.raises(UsageError, match="separate states"):
        model.decode(codes, state)
    with pytest.raises(UsageError, match="was made for batch"):
        model.encode(clip(2, batch=1), state)


def test_sizes_that_do_not_divide_are_refused_with_sizes_that_do():
    model = tiny(4)
    good = clip(5)
    with pytest.raises(UsageError, match="height 60 does not divide by 8; use 56 or 64"):
        model.encode(torch.zeros(1, 3, 1, 60, 80))
    with pytest.raises(UsageError, match="width 4 does not divide by 8; use 8"):
        model.grid_shape(1, 64, 4)
    with pytest.raises(UsageError, match="first chunk of 6 frames does not fit time stride 4; use 5 or 9"):
        model.encode(torch.cat([good, good[:, :, :1]], dim=2))
    _, state = model.encode(good)
    with pytest.raises(UsageError, match="later chunk of 5 frames does not fit time stride 4; use 4 or 8"):
        model.encode(good, state)
    with pytest.raises(UsageError, match="cannot be decoded"):
        model.decode(Codes("latent", torch.zeros(1, 4, 1, 2, 2)))
    assert model.grid_shape(13, 64, 80) == (4, 8, 10)


def test_configs_that_cannot_be_built_are_refused():
    with pytest.raises(UsageError, match="time_stride 8 needs at least 4 widths"):
        AutoencoderConfig(time_stride=8)
    with pytest.raises(UsageError, match="entries, one per width"):
        AutoencoderConfig(widths=(8, 8))
    with pytest.raises(UsageError, match="use e.g. 64, 128, 256"):
        AutoencoderConfig(widths=(8, 24, 40), num_res_blocks=(0, 0, 0)).build()
    config = AutoencoderConfig(space_stride=16)
    assert config.patch == 4
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@torch.no_grad()
def test_everything_comes_out_in_the_dtype_of_the_weights(dtype):
    model = tiny(2).to(dtype)
    codes, state = model.encode(clip(3).float())
    video, _ = model.decode(codes)
    assert codes.data.dtype == video.dtype == dtype
    assert all(v.dtype == dtype for v in state["past"].values())
    exact = tiny(2)
    error = (video.double() - exact.decode(exact.encode(clip(3).float())[0])[0]).abs().max()
    assert error < {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 0.2}[dtype]


@torch.no_grad()
def test_measured_statistics_normalise_the_latents():
    model = tiny(1)
    videos = [clip(3), clip(3).flip(3) * 0.5]
    raw = torch.cat([model.encode_raw(v)[0] for v in videos]).transpose(0, 1).flatten(1)
    model.latent_mean.copy_(raw.mean(dim=1))
    model.latent_std.copy_(raw.std(dim=1, correction=0))
    latents = torch.cat([model.encode(v)[0].data for v in videos]).transpose(0, 1).flatten(1)
    assert torch.allclose(latents.mean(dim=1), torch.zeros(3).double(), atol=1e-9)
    assert torch.allclose(latents.std(dim=1, correction=0), torch.ones(3).double(), atol=1e-9)
    raw = model.encode_raw(videos[0])[0]
    assert torch.allclose(model.decode(model.encode(videos[0])[0])[0], model.decode_raw(raw)[0].clamp(-1, 1))


@torch.no_grad()
def test_save_and_load_round_trip_in_bits(tmp_path):
    model = tiny(2).float()
    model.save_pretrained(tmp_path / "tokenizer")
    again = Autoencoder.from_pretrained(tmp_path / "tokenizer")
    assert not again.training and again.config == model.config
    video = clip(3).float()
    assert torch.equal(again.encode(video)[0].data, model.encode(video)[0].data)
    assert sorted(p.name for p in (tmp_path / "tokenizer").iterdir()) == ["config.json", "model.safetensors"]


def test_half_precision_weights_load_into_the_built_dtype(tmp_path):
    model = tiny(2).float()
    model.save_pretrained(tmp_path, dtype=torch.bfloat16)
    again = Autoencoder.from_pretrained(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.bfloat16().float())


def test_damaged_directories_give_one_line(tmp_path):
    model = tiny(2).float()
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:cut])
        with pytest.raises(VidarError, match="damaged or truncated") as error:
            Autoencoder.from_pretrained(tmp_path)
        assert "\n" not in str(error.value) and str(weights) in str(error.value)
    weights.unlink()
    with pytest.raises(VidarError, match=r"model.safetensors: missing"):
        Autoencoder.from_pretrained(tmp_path)
    other = AutoencoderConfig(widths=(4, 8, 8, 16), num_res_blocks=(1, 0, 0, 1), latent_channels=5)
    weights.write_bytes(whole)
    (tmp_path / "config.json").write_text(json.dumps(to_dict(other)))
    with pytest.raises(VidarError, match="it or config.json was changed after it was saved"):
        Autoencoder.from_pretrained(tmp_path)
