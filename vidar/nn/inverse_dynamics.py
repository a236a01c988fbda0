"""Inverse dynamics: which keys were down, read from the frames around a step (after Baker et al., VPT, 2022).

Step t is the one between frames t-1 and t, caused by actions[t]. It is read from frames t-before .. t+after. Keys that
exclude each other form a group with one label: 0 is none, i is the i-th entry of `classes`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vidar.actions import ActionSpec
from vidar.config import Config
from vidar.nn.pretrained import load_component, save_component
from vidar.types import UsageError

Axis = Literal["turn", "ahead", "left"]


class KeyGroup(Config):
    """Keys that exclude each other. classes: for each label from 1 on, the actions any of which mean it.

    axis, signs: the axis of the pose that the keys move, and the direction of each class; None where there is no pose.
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
        """What the labels 0, 1, ... are called."""
        return ("none", *("/".join(names) for names in self.classes))


class InverseDynamicsNetConfig(Config):
    """groups: by name. before, after: frames read before and after frame t of a step.

    widths: channels of the stages, each of which halves the picture. head: numbers per cell that reach the read-out.
    """

    spec: ActionSpec
    groups: Mapping[str, KeyGroup] = Field(min_length=1)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    before: int = Field(default=2, ge=1)
    after: int = Field(default=1, ge=0)
    widths: tuple[int, ...] = Field(default=(24, 48, 96, 128), min_length=1)
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
        """Frames that are read for one step."""
        return self.before + 1 + self.after

    def steps(self, frames: int) -> slice:
        """The steps of a clip of `frames` frames that have a full window. Raises UsageError where there is none."""
        if frames < self.window:
            raise UsageError(f"a clip of {frames} frames is shorter than the window of {self.window}; give more frames")
        return slice(self.before, frames - self.after)

    def build(self) -> InverseDynamicsNet:
        """The network, untrained."""
        return InverseDynamicsNet(self)


class InverseDynamicsNet(nn.Module):
    """Strided 3 x 3 convolutions over frame t and the differences of neighbouring frames, then a linear read-out.

    Choice: the read-out sees every cell of the last stage, because going ahead and turning differ in where the picture
    moves and not in how much.
    """

    def __init__(self, config: InverseDynamicsNetConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        channels, rows, columns = 3 * config.window, config.height, config.width
        for width in config.widths:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.GroupNorm(1, width), nn.SiLU()]
            if rows < config.height:  # not at the first stage, which has most of the pixels
                layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.SiLU()]
            channels, rows, columns = width, (rows + 1) // 2, (columns + 1) // 2
        self.stages = nn.Sequential(*layers, nn.Conv2d(channels, config.head, 1), nn.SiLU(), nn.Flatten())
        self.hidden = nn.Sequential(nn.Linear(config.head * rows * columns, 64), nn.SiLU())
        self.out = nn.Linear(64, sum(len(group.labels) for group in config.groups.values()))

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Clips [B, T, H, W, 3], uint8 or float in [0, 255] -> for each group the logits [B, T', labels].

        T' = T - window + 1: the steps `config.steps(T)`. Raises UsageError for frames of another size.
        """
        config = self.config
        batch, count = frames.shape[:2]
        steps = config.steps(count)
        if frames.shape[2:] != (config.height, config.width, 3):
            size = " x ".join(map(str, frames.shape[2:]))
            raise UsageError(f"frames are {size}, the model reads {config.height} x {config.width} x 3; resize them")
        x = (frames.float() / 127.5 - 1).permute(0, 1, 4, 2, 3)  # [B, T, 3, H, W]
        change = x[:, 1:] - x[:, :-1]
        length = steps.stop - steps.start
        parts = [x[:, steps], *(change[:, k : k + length] for k in range(config.window - 1))]
        read = self.out(self.hidden(self.stages(torch.cat(parts, 2).flatten(0, 1))))  # [B T', labels of all groups]
        each = read.unflatten(0, (batch, length)).split([len(g.labels) for g in config.groups.values()], -1)
        return dict(zip(config.groups, each))

    @torch.inference_mode()
    def predict(self, frames: Tensor, chunk: int = 64) -> Tensor:
        """Clips as in `forward` -> the likeliest labels, long [B, T', groups], about `chunk` steps at a time."""
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
    """Action table [..., A] -> labels, long [..., groups]. Keys of two classes at once count as none (GameWorld)."""
    pressed = actions != torch.from_numpy(spec.noop()).to(actions)
    return torch.stack([_label(pressed, spec, group.classes) for group in groups.values()], -1)


def _label(pressed: Tensor, spec: ActionSpec, classes: Sequence[Sequence[str]]) -> Tensor:
    columns = [[spec.names.index(name) for name in names] for names in classes]
    down = torch.stack([pressed[..., picked].any(-1) for picked in columns], -1).long()
    return (down.argmax(-1) + 1) * (down.sum(-1) == 1)
