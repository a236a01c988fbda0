"""Ego-motion: how a first-person player turned and moved in a step, read from the frames before and after it.

After the pose network of Zhou et al., Unsupervised Learning of Depth and Ego-Motion from Video (2017), but trained with
the true pose of the game. Step t is the one between frames t-1 and t. A turn is in degrees, counter-clockwise; ahead
and left are in map units.
"""

from __future__ import annotations

import math
import os

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vidar.config import Config
from vidar.nn.inverse_dynamics import CELL, FLAT, Axis, convolution
from vidar.nn.pretrained import load_component, save_component
from vidar.types import UsageError

AXES: tuple[Axis, Axis, Axis] = ("turn", "ahead", "left")
MIRRORED = (-1.0, 1.0, -1.0)  # what a mirror does to each axis
LEAST = 0.01  # the smallest expected error, in the unit of an axis


class PoseNetConfig(Config):
    """view: horizontal field of view in degrees. scale: a usual motion along each axis, in degrees and map units.

    turn, pace: the largest compared turn and the step between turns, in degrees. shift: the largest compared shift of
    the picture after the turn is undone, in pairs of pixels. stem: channels of the two convolutions that each halve the
    image. widths: channels of the following stages, each of which, except the first, halves it again. head: values per
    cell that reach the read-out, and `hidden` its width.
    """

    height: int = Field(ge=CELL, multiple_of=CELL)
    width: int = Field(ge=CELL, multiple_of=CELL)
    view: float = Field(gt=0, lt=180)
    scale: tuple[float, float, float] = (5.0, 8.0, 8.0)
    turn: int = Field(default=9, ge=1)
    pace: float = Field(default=1.0, gt=0)
    shift: int = Field(default=3, ge=0)
    stem: tuple[int, int] = (16, 32)
    widths: tuple[int, ...] = Field(default=(64, 96, 128), min_length=1)
    head: int = Field(default=16, ge=1)
    hidden: int = Field(default=128, ge=1)

    @property
    def turns(self) -> tuple[float, ...]:
        """Each compared turn in degrees."""
        count = round(self.turn / self.pace)
        return tuple(self.pace * k for k in range(-count, count + 1))

    @property
    def shifts(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each compared shift, in pairs of pixels; together they form a square."""
        side = range(-self.shift, self.shift + 1)
        return tuple((row, column) for row in side for column in side)

    def build(self) -> PoseNet:
        """The network, untrained."""
        return PoseNet(self)


def motion(pose: Tensor) -> Tensor:
    """Poses [..., T, 4] (x, y, z, angle in degrees, counter-clockwise) -> motion of the steps 1 .. T-1, [..., T-1, 3].

    Turn in [-180, 180); ahead and left along and across the heading at frame t. float64.
    """
    change = pose.double().diff(dim=-2)
    heading = torch.deg2rad(pose[..., 1:, 3].double())
    cos, sin, (east, north) = torch.cos(heading), torch.sin(heading), change[..., :2].unbind(-1)
    turn = (change[..., 3] + 180).remainder(360) - 180
    return torch.stack([turn, east * cos + north * sin, north * cos - east * sin], -1)


def turned(pictures: Tensor, degrees: Tensor, view: float) -> tuple[Tensor, Tensor]:
    """What a camera sees after a turn counter-clockwise: [N, C, H, W], degrees [N] -> the same shape, seen [N, H, W].

    A pinhole camera with the horizontal field of view `view`, level; its own place does not change, so that depth does
    not matter. Bilinear. seen: False where the picture does not reach and its edge is repeated.
    """
    height, width = pictures.shape[-2:]
    reach = math.tan(math.radians(view) / 2)  # half the picture plane at distance 1
    down = (torch.arange(height, device=pictures.device) + 0.5) * (2 / width) - height / width
    across = (torch.arange(width, device=pictures.device) + 0.5) * (2 / width) - 1
    now = torch.atan(across * reach)  # [W], to the right
    before = now - torch.deg2rad(degrees.float())[:, None]  # [N, W]
    x = torch.tan(before.clamp(-1.5, 1.5)) / reach
    y = down[:, None] * (torch.cos(now) / torch.cos(before))[:, None] * (width / height)  # [N, H, W]
    grid = torch.stack([x[:, None].expand_as(y), y], -1)
    seen = (x.abs() <= 1)[:, None] & (y.abs() <= 1)
    return F.grid_sample(pictures, grid.to(pictures), padding_mode="border", align_corners=False), seen


def best_turn(now: Tensor, before: Tensor, config: PoseNetConfig) -> tuple[Tensor, Tensor]:
    """Turn by search: luma [N, H, W] of both frames -> degrees [N], and how badly each turn fits [N, turns].

    The mean of |now - before turned| over the seen pixels, divided by its mean over the turns, minus 1. The best one is
    refined by a parabola through its neighbours.
    """
    costs = []
    for degrees in config.turns:
        moved, seen = turned(before[None], before.new_full((1,), degrees), config.view)  # frames as channels
        off = ((now - moved[0]).abs() * seen[0]).sum((1, 2)) / seen.sum()
        costs.append(off)
    cost = torch.stack(costs, 1)
    cost = cost / (cost.mean(1, keepdim=True) + FLAT) - 1
    at = cost[:, 1:-1].argmin(1, keepdim=True) + 1
    left, middle, right = (cost.gather(1, at + k)[:, 0] for k in (-1, 0, 1))
    bend = (left - 2 * middle + right).clamp_min(1e-6)
    peak = (0.5 * (left - right) / bend).clamp(-0.5, 0.5)
    return (at[:, 0] - len(config.turns) // 2 + peak) * config.pace, cost


def residual(now: Tensor, before: Tensor, config: PoseNetConfig) -> Tensor:
    """How badly each shift fits: luma [N, H, W] of both frames -> [N, shifts, H/4, W/4].

    At half size, over the 8 x 8 pixels around a cell; edges are repeated. Divided by the mean over the shifts, minus 1,
    so that it hardly depends on contrast.
    """
    most = config.shift
    now, before = (F.avg_pool2d(luma[:, None], 2) for luma in (now, before))
    wide = F.pad(before, (most,) * 4, mode="replicate")[:, 0]
    height, width = now.shape[-2:]
    moved = [wide[:, most + r : most + r + height, most + c : most + c + width] for r, c in config.shifts]
    off = F.avg_pool2d((now - torch.stack(moved, 1)).abs(), CELL, CELL // 2, 1, count_include_pad=False)
    return off / (off.mean(1, keepdim=True) + FLAT) - 1


class PoseNet(nn.Module):
    """Undoes the turn that fits best, then strided 3 x 3 convolutions over what is left of the motion.

    Choice: a turn moves the picture in the same way at any depth, so it is found by search; what remains depends on
    depth and is learned. Two frames and no more: a longer window would fill in what usually follows, and the network
    judges dreams, in which the unusual happens.
    """

    def __init__(self, config: PoseNetConfig) -> None:
        super().__init__()
        self.config = config
        (first, second), later = config.stem, config.widths
        self.stem = nn.Sequential(*convolution(6, first, 2), *convolution(first, second, 2))
        rows, columns = config.height // CELL, config.width // CELL
        layers = convolution(second + len(config.shifts), later[0], 1)
        for before, width in zip(later, later[1:]):
            layers += convolution(before, width, 2) + convolution(width, width, 1)
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
        self.tower = nn.Sequential(*layers, nn.Conv2d(later[-1], config.head, 1), nn.SiLU(), nn.Flatten())
        seen = config.head * rows * columns + len(config.turns) + 1
        self.hidden = nn.Sequential(nn.Linear(seen, config.hidden), nn.SiLU())
        self.out = nn.Linear(config.hidden, 2 * len(AXES))
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # missing in the stub

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Clips [B, T, H, W, 3], uint8 or float in [0, 255] -> motion and expected error, each [B, T-1, 3].

        Of the steps 1 .. T-1. The expected error is a mean absolute one: large where nothing is to be seen, as in front
        of a plain wall. Raises UsageError for frames of another size, or fewer than two.
        """
        config = self.config
        if frames.shape[2:] != (config.height, config.width, 3) or frames.shape[1] < 2:
            wanted = f"2 or more frames of {config.height} x {config.width} x 3"
            raise UsageError(f"frames are {list(frames.shape[1:])}, the pose network reads {wanted}")
        x = (frames.float() / 127.5 - 1).permute(0, 1, 4, 2, 3)  # [B, T, 3, H, W]
        now, before = x[:, 1:].flatten(0, 1), x[:, :-1].flatten(0, 1)  # [N, 3, H, W]
        with torch.no_grad():
            turn, cost = best_turn(now.mean(1), before.mean(1), config)
            before = turned(before, turn, config.view)[0]
            fits = residual(now.mean(1), before.mean(1), config)
        seen = self.stem(torch.cat([now, now - before], 1))  # [N, C, H/4, W/4]
        both = torch.cat([seen, fits.to(seen.dtype)], 1).contiguous(memory_format=torch.channels_last)
        told = torch.cat([cost, turn[:, None] / config.scale[0]], 1)
        read = self.out(self.hidden(torch.cat([self.tower(both), told.to(seen.dtype)], 1)))
        moved, off = read.to(torch.promote_types(read.dtype, torch.float32)).chunk(2, -1)
        unit = moved.new_tensor(config.scale)
        moved = moved * unit + F.pad(turn[:, None], (0, len(AXES) - 1))
        off = (F.softplus(off) + LEAST) * unit
        return moved.unflatten(0, (len(frames), -1)), off.unflatten(0, (len(frames), -1))

    @torch.inference_mode()
    def read(self, frames: Tensor, chunk: int = 64) -> tuple[Tensor, Tensor]:
        """Clips as in `forward` -> the same on the CPU, about `chunk` steps at a time.

        The mean with what is read from the mirrored frames, mirrored back: so a mirror changes exactly the signs of
        turn and left.
        """
        size = max(1, chunk // len(frames))
        own = next(self.parameters())
        signs = torch.tensor(MIRRORED, device=own.device)
        found, errors = list[Tensor](), list[Tensor]()
        for start in range(0, frames.shape[1] - 1, size):
            part = frames[:, start : start + size + 1].to(own.device)
            (moved, off), (mirrored, other) = self(part), self(part.flip(3))
            found.append((moved + signs * mirrored) / 2)
            errors.append((off + other) / 2)
        return torch.cat(found, 1).cpu(), torch.cat(errors, 1).cpu()

    def save_pretrained(self, directory: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors`."""
        save_component(self, self.config, directory, dtype)

    @staticmethod
    def from_pretrained(directory: str | os.PathLike[str]) -> PoseNet:
        """Read what `save_pretrained` wrote. Raises VidarError for missing or damaged files."""
        model = load_component(directory)
        if not isinstance(model, PoseNet):
            raise UsageError(f"{directory}: holds a {type(model).__name__}, not a PoseNet")
        return model
