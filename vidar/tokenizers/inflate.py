"""Initialise a tokenizer from a trained one: with the same config, or a video tokenizer from an image tokenizer.

Inflation: every 2D kernel becomes the last time tap, which reads the current frame; the taps of the past start at
zero. The video tokenizer therefore starts with the outputs of the image tokenizer, frame by frame (as in
InfinityStar).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from vidar.config import Config
from vidar.tokenizers.causal_conv import CausalConv
from vidar.tokenizers.config import TokenizerConfig
from vidar.tokenizers.resample import Up
from vidar.types import UsageError


def take_over(known: nn.Module, model: nn.Module, name: str) -> None:
    """Copy the weights of `known` into `model`, in place.

    `known` has the same config, or that of its image tokenizer.

    Scales may have other sizes if their number is the same, because no weight depends on the sizes (training by
    stages). Raises UsageError, which calls `known` by `name`, for every other difference.
    """
    have, want = getattr(known, "config", None), cast(TokenizerConfig, model.config)
    if have is not None and type(have) is type(want):
        have = have.rescaled(want.sides)
    if have == want:
        model.load_state_dict(known.state_dict())
    elif have == want.image():
        inflate(known, model)
    else:
        raise UsageError(
            f"{name}: does not fit the tokenizer of this run{_difference(known, want)}; start from one with the same "
            "config, or with time_kernel 1, time_stride 1 and otherwise the same config"
        )


def inflate(image: nn.Module, video: nn.Module) -> None:
    """Weights of an image tokenizer into the video tokenizer whose `image` it is (`TokenizerConfig`)."""
    state = dict(image.state_dict())
    for name, layer in video.named_modules():
        if isinstance(layer, Up) and layer.time_factor > 1:
            weight, bias = f"{name}.conv.conv.weight", f"{name}.conv.conv.bias"
            state[weight] = every_frame(state[weight], layer.time_factor)
            state[bias] = state[bias].repeat(layer.time_factor)
    for name, layer in video.named_modules():
        if isinstance(layer, CausalConv) and layer.time_kernel > 1:
            weight = f"{name}.conv.weight"
            state[weight] = last_tap(state[weight], layer.time_kernel)
    video.load_state_dict(state)


def last_tap(weight: Tensor, time_kernel: int) -> Tensor:
    """2D kernel [O, I, h, w] -> [O, I, time_kernel, h, w] that reads only the current frame."""
    taps = weight.new_zeros(*weight.shape[:2], time_kernel, *weight.shape[2:])
    taps[:, :, -1] = weight
    return taps


def every_frame(weight: Tensor, factor: int) -> Tensor:
    """2D kernel [O, I, h, w] of an `Up` without time -> [factor O, I, h, w] with equal output for every frame.

    Repeating the kernel is not enough. The shortcut repeats each input channel for neighbouring outputs; spread over
    factor O outputs, it gives every frame other channels than it gave the image:

        O = 4, I = 2            image    0 0 1 1
        factor 2        frames 0 | 1     0 0 0 0 | 1 1 1 1

    Kernel and shortcut read the same input, so the centre of the kernel subtracts the new shortcut and adds the old
    one.
    """
    channels_out, channels_in, height, width = weight.shape
    weight = weight.repeat(factor, 1, 1, 1)
    outputs = torch.arange(factor * channels_out)
    old = outputs % channels_out // (channels_out // channels_in)
    new = outputs // (factor * channels_out // channels_in)
    weight[outputs, old, height // 2, width // 2] += 1
    weight[outputs, new, height // 2, width // 2] -= 1
    return weight


def _difference(known: nn.Module, want: TokenizerConfig) -> str:
    """A description of the first key in which the tokenizers differ; for an image tokenizer, one not about time."""
    have = getattr(known, "config", None)
    if not isinstance(have, type(want)):
        return f", but a {type(known).__name__}"
    if have == have.image():
        want = want.image()
    key, old, new = _first_difference(have, want)
    return f": its {key} is {old!r}, not {new!r}"


def _first_difference(have: Config, want: Config) -> tuple[str, object, object]:
    for name in type(want).model_fields:
        old, new = getattr(have, name), getattr(want, name)
        if old == new:
            continue
        if isinstance(old, Config) and type(old) is type(new):
            key, old, new = _first_difference(old, new)
            return f"{name}.{key}", old, new
        return name, old, new
    raise AssertionError("the configs are equal")
