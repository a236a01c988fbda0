"""A cloud of points that remembers what a first-person player saw, and draws it as it looks from another pose.

After the memory of Memory Forcing (Huang et al., arXiv 2510.03198, 3.2): pictures with depth and pose are points; a
picture becomes a keyframe where the cloud lacks something; what is visible from a pose chooses its source frames.
Choice: the points of these frames are drawn, each frame as a whole. Points of many frames that do not agree on depth
draw noise, where one frame draws a picture that is a little out of place.

Depth is the distance along the view, in map units. A pose is (x, y, z, angle in degrees, counter-clockwise) of a level
pinhole camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config

BLOCKS = (1, 2, 4, 8)  # pixels along the side of the blocks that a point may fill
CELL = 8  # pixels along the side of the cells in which frames are compared
FAR = 1 << 20  # rows of a map, in cells
NOTHING = torch.iinfo(torch.int64).max


class Frame(NamedTuple):
    """picture uint8 [H, W, 3], depth float32 [H, W], pose float32 [4]."""

    picture: Tensor
    depth: Tensor
    pose: Tensor


class Drawn(NamedTuple):
    """The cloud as it looks from a pose: colour uint8 [H, W, 3], seen bool [H, W], depth and grain float32 [H, W].

    grain: how many pixels apart the points are. Where nothing is seen, colour and depth are 0 and grain is inf. frames:
    numbers of the keyframes that are drawn, best first. kept bool [H, W]: what a keyframe shows, not a recent frame.
    """

    colour: Tensor
    seen: Tensor
    depth: Tensor
    grain: Tensor
    frames: tuple[int, ...]
    kept: Tensor


class PointsConfig(Config):
    """view: horizontal field of view in degrees. capacity: keyframes that are kept; the oldest makes room.

    drawn: keyframes that are drawn at once. near: smallest depth that is drawn, in map units. apart: two points of a
    pixel belong to one surface if their depths differ by at most this factor. coarse: points that are further apart, in
    pixels, lack detail. lacking: share of the picture that makes it a keyframe if it is not seen or lacks detail.
    """

    height: int = Field(ge=CELL, multiple_of=CELL)
    width: int = Field(ge=CELL, multiple_of=CELL)
    view: float = Field(gt=0, lt=180)
    capacity: int = Field(default=512, ge=1)
    drawn: int = Field(default=3, ge=1)
    near: float = Field(default=4.0, gt=0)
    apart: float = Field(default=1.25, gt=1)
    coarse: float = Field(default=2.0, ge=1)
    lacking: float = Field(default=0.06, gt=0, le=1)

    @property
    def reach(self) -> tuple[float, float]:
        """Half the width and half the height of the picture plane at depth 1."""
        across = math.tan(math.radians(self.view) / 2)
        return across, across * self.height / self.width

    def build(self) -> Points:
        """An empty cloud."""
        cells = self.height // CELL, self.width // CELL
        return Points(self, (), torch.zeros(0, *cells, 3), torch.zeros(0, *cells), 0)


@dataclass(frozen=True)
class Points:
    """keyframes: oldest first; total: number of keyframes ever added. Nothing is changed in place.

    place float32 [N, H / CELL, W / CELL, 3], size [N, H / CELL, W / CELL]: the middle point of each cell of the
    keyframes, and the width of a pixel there, in map units.
    """

    config: PointsConfig
    keyframes: tuple[Frame, ...]
    place: Tensor
    size: Tensor
    total: int

    def add(self, frame: Frame) -> Points:
        """The cloud with one more keyframe."""
        c, kept = self.config, slice(-self.config.capacity, None)
        depth = frame.depth[CELL // 2 :: CELL, CELL // 2 :: CELL]
        place = unprojected(depth, frame.pose, c)
        size = depth * (2 * c.reach[0] / c.width)
        return Points(
            c,
            (*self.keyframes, frame)[kept],
            torch.cat([self.place, place[None]])[kept],
            torch.cat([self.size, size[None]])[kept],
            self.total + 1,
        )

    def retrieve(self, pose: Tensor) -> list[int]:
        """The keyframes that show most of what is visible from a pose, best first: at most `drawn` of them.

        Each next one adds most to what the better ones show. A frame shows a cell of the view as well as its points
        there are close together; points behind others are not visible.
        """
        c = self.config
        depth, row, column, inside = projected(self.place, pose, c)
        cells = c.height // CELL, c.width // CELL
        cell = (row * (cells[0] / c.height)).long() * cells[1] + (column * (cells[1] / c.width)).long()
        cell = torch.where(inside, cell, 0).flatten(1)
        inside, depth = inside.flatten(1), depth.flatten(1)
        nearest = torch.full((cells[0] * cells[1],), torch.inf)
        nearest.scatter_reduce_(0, cell[inside], depth[inside], "amin")
        inside = inside & (depth <= nearest[cell] * c.apart * c.apart)
        grain = self.size.flatten(1) / depth * (c.width / 2 / c.reach[0])
        good = torch.where(inside, 1 / grain.clamp(min=1), 0)
        shown = torch.zeros(len(cell), cells[0] * cells[1]).scatter_reduce_(1, cell, good, "amax")
        found, best = list[int](), torch.zeros(cells[0] * cells[1])
        for _ in range(min(c.drawn, len(shown))):
            gain = (shown - best).relu().sum(1)
            number = int(gain.argmax())
            if float(gain[number]) < 1:
                break
            found.append(number)
            best = best.maximum(shown[number])
        return found

    def draw(self, pose: Tensor, recent: Sequence[Frame] = ()) -> Drawn:
        """The cloud as it looks from a pose, float [4]. recent: more frames, drawn where no keyframe is."""
        c, numbers = self.config, self.retrieve(pose) if self.keyframes else []
        frames = [*(self.keyframes[number] for number in numbers), *recent]
        if not frames:
            nothing = torch.zeros(c.height, c.width)
            colour = torch.zeros(c.height, c.width, 3, dtype=torch.uint8)
            return Drawn(colour, nothing > 0, nothing, nothing + torch.inf, (), nothing > 0)
        depths = torch.stack([frame.depth for frame in frames])
        place = torch.stack([unprojected(frame.depth, frame.pose, c) for frame in frames])
        depth, row, column, inside = projected(place, pose, c)
        kept = inside.flatten().nonzero()[:, 0]
        grain = depths.flatten()[kept] / depth.flatten()[kept]
        depth, row, column = (one.flatten()[kept] for one in (depth, row.long(), column.long()))
        layer, colours = kept // (c.height * c.width), torch.stack([frame.picture for frame in frames]).reshape(-1, 3)
        key = (depth.view(torch.int32).long() << 32) | torch.arange(len(depth))  # a positive float sorts like its bits
        layers = list[Tensor]()
        for block in BLOCKS:
            high, wide = c.height // block, c.width // block
            those = slice(None) if block == 1 else (grain > block / 2.8).nonzero()[:, 0]
            nearest = torch.full((len(frames) * high * wide,), NOTHING)
            at = (layer[those] * high + row[those] // block) * wide + column[those] // block
            nearest.scatter_reduce_(0, at, key[those], "amin")
            nearest = nearest.view(-1, high, wide).repeat_interleave(block, 1).repeat_interleave(block, 2)
            layers.append(nearest)
        found = torch.stack(layers, 1).flatten(0, 1)  # [frames BLOCKS, H, W]: best frame first, finest block first
        return _composed(found, depth, grain, colours[kept], c.apart, tuple(numbers))

    def lacks(self, drawn: Drawn) -> bool:
        """Whether a picture at the pose of a drawing has enough that the keyframes lack to become one."""
        lacking = (drawn.grain > self.config.coarse) | ~drawn.kept
        return float(lacking.float().mean()) > self.config.lacking

    def ranges(self, pose: Tensor, rays: int, most: float) -> Tensor:
        """How far the nearest wall is in directions around a pose, counter-clockwise from ahead: float32 [rays].

        Points at about the height of the eye are walls. `most` where there is none so near.
        """
        middle = self.place.shape[1] // 2
        east, north = (self.place[:, middle - 1 : middle + 1, :, axis].flatten() - pose[axis] for axis in (0, 1))
        far = (east.square() + north.square()).sqrt()
        angle = torch.atan2(north, east) - torch.deg2rad(pose[3])
        ray = (angle * (rays / (2 * math.pi))).floor().long() % rays
        return torch.full((rays,), most).scatter_reduce_(0, ray, far, "amin")

    def walls(self, pose: Tensor, cell: float, most: int) -> Tensor:
        """The walls seen from above: int64 [n, 2], columns and rows of a grid with cells of `cell` map units.

        A wall is where two pixels or more at the height of the eye are, of pictures that are as fine there as the grid.
        At most `most` cells, those nearest to a pose [4] first.
        """
        c, middle = self.config, self.config.height // 2
        if not self.keyframes:
            return torch.zeros(0, 2, dtype=torch.int64)
        depth = torch.stack([frame.depth[middle - 1 : middle + 1] for frame in self.keyframes])  # N 2 W
        place = unprojected(depth, torch.stack([frame.pose for frame in self.keyframes]), c)[..., :2]
        cells = (place[depth * (2 * c.reach[0] / c.width) <= cell] / cell).floor().long()
        keys, pixels = (cells[:, 0] * FAR + cells[:, 1] + FAR // 2).unique(return_counts=True)  # fast, unlike dim=0
        keys = keys[pixels > 1]
        cells = torch.stack([keys.div(FAR, rounding_mode="floor"), keys % FAR - FAR // 2], 1)
        far = ((cells + 0.5) * cell - pose[:2]).square().sum(1)
        return cells[far.argsort()[:most]]


def unprojected(depth: Tensor, pose: Tensor, config: PointsConfig) -> Tensor:
    """Places [..., h, w, 3] of the pixels of pictures with depth [..., h, w], seen from poses [..., 4]."""
    (across, down), (height, width) = config.reach, depth.shape[-2:]
    left = (1 - (torch.arange(width) + 0.5) * (2 / width)) * across * depth
    up = (1 - (torch.arange(height) + 0.5) * (2 / height))[:, None] * down * depth
    heading = torch.deg2rad(pose[..., 3, None, None])
    cos, sin = torch.cos(heading), torch.sin(heading)
    return torch.stack([depth * cos - left * sin, depth * sin + left * cos, up], -1) + pose[..., None, None, :3]


def projected(place: Tensor, pose: Tensor, config: PointsConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places [..., 3] -> depth, row and column in pixels, and whether they are in the picture, [...] each."""
    across, down = config.reach
    east, north, above = (place - pose[:3]).unbind(-1)
    heading = torch.deg2rad(pose[3])
    cos, sin = torch.cos(heading), torch.sin(heading)
    depth = east * cos + north * sin
    ahead = depth > config.near
    scale = 1 / torch.where(ahead, depth, 1)
    column = (1 - (north * cos - east * sin) * scale * (1 / across)) * (config.width / 2)
    row = (1 - above * scale * (1 / down)) * (config.height / 2)
    inside = ahead & (column >= 0) & (column < config.width) & (row >= 0) & (row < config.height)
    return depth, row, column, inside


def _composed(
    found: Tensor, depth: Tensor, grain: Tensor, colour: Tensor, apart: float, frames: tuple[int, ...]
) -> Drawn:
    """Keys [layers, H, W], the best layer first -> in each pixel the first one that belongs to the nearest surface."""
    if len(depth) == 0:
        depth, grain, colour = torch.zeros(1), torch.zeros(1), torch.zeros(1, 3, dtype=torch.uint8)
    there = found < NOTHING
    number = torch.where(there, found & 0xFFFFFFFF, 0)
    far = torch.where(there, depth[number], torch.inf)
    first = (far <= far.amin(0) * apart).to(torch.uint8).argmax(0, keepdim=True)
    number, seen = number.gather(0, first)[0], there.any(0)
    return Drawn(
        torch.where(seen[..., None], colour[number], 0),
        seen,
        torch.where(seen, depth[number], 0),
        torch.where(seen, grain[number], torch.inf),
        frames,
        seen & (first[0] < len(frames) * len(BLOCKS)),
    )
