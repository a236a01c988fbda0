"""Inverse dynamics: reads which keys were down from the frames around a step (after Baker et al., VPT, 2022).

Step t is the one between frames t-1 and t, caused by actions[t]. It is read from frames t-before .. t+after. Mutually
exclusive keys form a group with one label: 0 is none, i is the i-th entry of `classes`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vidar.actions import ActionSpec
from vidar.config import Config
from vidar.nn.pretrained import load_component, save_component
from vidar.types import UsageError

Axis = Literal["turn", "ahead", "left"]
CELL = 4  # pixels along the side of a cell of the block matching, after two halvings
FLAT = 0.02  # a mismatch that counts as none, in the range of 2: 2.5 of 255


class KeyGroup(Config):
    """Mutually exclusive keys. classes: for each label from 1 on, the actions any of which mean this label.

    axis, signs: the axis of the pose that the keys move, and the direction of each class; None if there is no pose.
    """

    classes: tuple[tuple[str, ...], ...] = Field(min_length=1)
    axis: Axis | None = None
    signs: tuple[Literal[-1, 1], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> KeyGroup:
        if self.axis is not None and len(self.signs) != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes need as many signs, not {len(self.signs)}")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, ..."""
        return ("none", *("/".join(names) for names in self.classes))


class InverseDynamicsNetConfig(Config):
    """groups: by name. before, after: number of frames read before and after frame t of a step.

    stem: channels of the two convolutions that each halve the image, before the shifts are concatenated. widths:
    channels of the following stages, each of which, except the first, halves the image again. across, along: the
    largest compared shifts, in pixels. head: values per cell that reach the read-out.
    """

    spec: ActionSpec
    groups: Mapping[str, KeyGroup] = Field(min_length=1)
    height: int = Field(ge=CELL, multiple_of=CELL)
    width: int = Field(ge=CELL, multiple_of=CELL)
    before: int = Field(default=2, ge=1)
    after: int = Field(default=1, ge=0)
    stem: tuple[int, int] = (16, 32)
    widths: tuple[int, ...] = Field(default=(64, 128, 128), min_length=1)
    across: int = Field(default=9, ge=0)
    along: int = Field(default=2, ge=0)
    head: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _check(self) -> InverseDynamicsNetConfig:
        for name, group in self.groups.items():
            for action in (action for names in group.classes for action in names):
                if action not in self.spec.names:
                    raise ValueError(f"group {name!r}: no action {action!r}; valid: {', '.join(self.spec.names)}")
        return self

    @property
    def window(self) -> int:
        """Number of frames that are read for one step."""
        return self.before + 1 + self.after

    @property
    def shifts(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each compared shift; together they form a cross."""
        lying = [(0, column) for column in range(-self.across, self.across + 1)]
        return (*lying, *((row, 0) for row in range(-self.along, self.along + 1) if row))

    def steps(self, frames: int) -> slice:
        """The steps of a clip of `frames` frames that have a full window. Raises UsageError if there are none."""
        if frames < self.window:
            raise UsageError(f"a clip of {frames} frames is shorter than the window of {self.window}; give more frames")
        return slice(self.before, frames - self.after)

    def build(self) -> InverseDynamicsNet:
        """The network, untrained."""
        return InverseDynamicsNet(self)


def matching(luma: Tensor, shifts: Sequence[tuple[int, int]]) -> Tensor:
    """Block matching: how badly each frame fits the previous one, shifted. [B, T, H, W] -> [B, T-1, shifts, H/4,
    W/4].

    Shift (r, c): mean over 4 x 4 pixels of |x_t[i, j] - x_{t-1}[i + r, j + c]|, with edges repeated. Choice: divided
    by the mean over the shifts, minus 1, so that it hardly depends on contrast; where all shifts fit well it is near
    -1.
    """
    height, width = luma.shape[-2:]
    rows, columns = (max(abs(shift[axis]) for shift in shifts) for axis in (0, 1))
    now, before = luma[:, 1:], F.pad(luma[:, :-1], (columns, columns, rows, rows), mode="replicate")
    fits = []
    for row, column in shifts:
        moved = before[..., rows + row : rows + row + height, columns + column : columns + column + width]
        fits.append(F.avg_pool2d((now - moved).abs(), CELL))
    found = torch.stack(fits, 2)
    return found / (found.mean(2, keepdim=True) + FLAT) - 1


def convolution(channels: int, width: int, stride: int) -> list[nn.Module]:
    """The layers of a 3 x 3 convolution with norm and activation."""
    return [nn.Conv2d(channels, width, 3, stride=stride, padding=1), nn.GroupNorm(1, width), nn.SiLU()]


class InverseDynamicsNet(nn.Module):
    """Strided 3 x 3 convolutions over frame t, the differences of neighbouring frames and their block matching.

    Choice: shifts are compared by a fixed rule and not learned, which needs far fewer steps; a cross of shifts
    suffices for a view that turns about one axis. The read-out is linear over every cell of the last stage, because
    moving ahead and turning differ in where the image moves and not in how much.
    """

    def __init__(self, config: InverseDynamicsNetConfig) -> None:
        super().__init__()
        self.config = config
        (first, second), later = config.stem, config.widths
        self.stem = nn.Sequential(*convolution(3 * config.window, first, 2), *convolution(first, second, 2))
        channels = second + len(config.shifts) * (config.window - 1)
        rows, columns = config.height // CELL, config.width // CELL
        layers = convolution(channels, later[0], 1)
        for before, width in zip(later, later[1:]):
            layers += convolution(before, width, 2) + convolution(width, width, 1)
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
        self.tower = nn.Sequential(*layers, nn.Conv2d(later[-1], config.head, 1), nn.SiLU(), nn.Flatten())
        self.hidden = nn.Sequential(nn.Linear(config.head * rows * columns, 128), nn.SiLU())
        self.out = nn.Linear(128, sum(len(group.labels) for group in config.groups.values()))
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # missing in the stub

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Clips [B, T, H, W, 3], uint8 or float in [0, 255] -> logits [B, T', labels] of each group.

        T' = T - window + 1: the steps `config.steps(T)`. Raises UsageError for frames of another size.
        """
        config = self.config
        batch, count = frames.shape[:2]
        steps = config.steps(count)
        if frames.shape[2:] != (config.height, config.width, 3):
            size = " x ".join(map(str, frames.shape[2:]))
            raise UsageError(f"frames are {size}, the model needs {config.height} x {config.width} x 3; resize them")
        length = steps.stop - steps.start
        x = frames.float() / 127.5 - 1
        change = x[:, 1:] - x[:, :-1]
        parts = [x[:, steps], *(change[:, k : k + length] for k in range(config.window - 1))]
        seen = self.stem(torch.cat(parts, -1).flatten(0, 1).permute(0, 3, 1, 2))  # [B T', C, H/4, W/4]
        with torch.no_grad():
            fit = matching(x.mean(-1), config.shifts).to(seen.dtype)  # [B, T-1, shifts, H/4, W/4]
        fits = torch.cat([fit[:, k : k + length] for k in range(config.window - 1)], 2).flatten(0, 1)
        both = torch.cat([seen, fits], 1).contiguous(memory_format=torch.channels_last)
        read = self.out(self.hidden(self.tower(both)))  # [B T', labels of all groups]
        each = read.unflatten(0, (batch, length)).split([len(g.labels) for g in config.groups.values()], -1)
        return dict(zip(config.groups, each))

    @torch.inference_mode()
    def predict(self, frames: Tensor, chunk: int = 64) -> Tensor:
        """Clips as in `forward` -> the most likely labels, long [B, T', groups], about `chunk` steps at a time."""
        count, config = frames.shape[1], self.config
        steps = config.steps(count)
        size = max(1, chunk // len(frames))
        device = next(self.parameters()).device
        found = []
        for start in range(steps.start, steps.stop, size):
            stop = min(start + size, steps.stop)
            logits = self(frames[:, start - config.before : stop + config.after].to(device))
            found.append(torch.stack([value.argmax(-1) for value in logits.values()], -1))
        return torch.cat(found, 1)

    def save_pretrained(self, directory: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors`."""
        save_component(self, self.config, directory, dtype)

    @staticmethod
    def from_pretrained(directory: str | os.PathLike[str]) -> InverseDynamicsNet:
        """Read what `save_pretrained` wrote. Raises VidarError for missing or damaged files."""
        model = load_component(directory)
        if not isinstance(model, InverseDynamicsNet):
            raise UsageError(f"{directory}: holds a {type(model).__name__}, not an InverseDynamicsNet")
        return model


def labels(actions: Tensor, spec: ActionSpec, groups: Mapping[str, KeyGroup]) -> Tensor:
    """Action table [..., A] -> labels, long [..., groups].

    Keys of two classes pressed together count as none (GameWorld).
    """
    pressed = actions != torch.from_numpy(spec.noop()).to(actions)
    return torch.stack([_label(pressed, spec, group.classes) for group in groups.values()], -1)


def _label(pressed: Tensor, spec: ActionSpec, classes: Sequence[Sequence[str]]) -> Tensor:
    columns = [[spec.names.index(name) for name in names] for names in classes]
    down = torch.stack([pressed[..., picked].any(-1) for picked in columns], -1).long()
    return (down.argmax(-1) + 1) * (down.sum(-1) == 1)
