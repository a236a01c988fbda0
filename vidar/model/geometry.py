"""A memory that is geometry: what was seen keeps its place, and is drawn as it looks from where the player is now.

After Memory Forcing (Huang et al., arXiv 2510.03198), with the cloud itself drawn. For first-person games whose walls
stand still; what moves is left to the network. Depth is read from the pictures, and the pose follows from the keys and
the walls that are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vidar.cache.points import CELL, Drawn, Frame, Points, PointsConfig
from vidar.nn.depth import DepthNetConfig
from vidar.nn.walk import WalkNetConfig, after
from vidar.rollout.codec import Codec
from vidar.rollout.memory import Chart, MemoryConfig
from vidar.tokenizers.patch import to_sites

CHART_CELL, MOST_WALLS, MOST_VIEWS = 8, 600, 128  # of a chart: side of its squares in map units, and how many of each
MARKS = 3  # channels beside the codes: the share that is seen, depth, and how coarse it is


class GeometryConfig(MemoryConfig):
    """points: the cloud. depth, walk: networks that read depth, and how the player moves. patch: of the world's sites,
    whose latents are cells of 8 x 8 pixels.
    """

    points: PointsConfig
    depth: DepthNetConfig
    walk: WalkNetConfig
    patch: int = Field(ge=1)

    @model_validator(mode="after")
    def _check(self) -> GeometryConfig:
        if (self.points.height, self.points.width) != (self.depth.height, self.depth.width):
            raise ValueError("points and depth have pictures of different sizes; make them equal")
        return self

    def values(self, channels: int, patch: int) -> int:
        """See `MemoryConfig`."""
        return (channels + MARKS) * patch**2

    def build(self) -> Geometry:
        """The memory with untrained networks."""
        return Geometry(self)


@dataclass(frozen=True)
class Place:
    """The state of a row. pose [4]; actions [K, A] and moved [K, 3]: of the last steps. drawn: the view from `pose`.

    recent: the last frame, which is drawn where no keyframe is.
    """

    points: Points
    pose: Tensor
    actions: Tensor
    moved: Tensor
    recent: tuple[Frame, ...]
    drawn: Drawn


class Geometry(nn.Module):
    """See `vidar.rollout.memory.Memory`. The networks run in float32 on the CPU."""

    def __init__(self, config: GeometryConfig) -> None:
        super().__init__()
        self.config = config
        self.depth, self.walk = config.depth.build(), config.walk.build()

    @torch.inference_mode()
    def start(self, pictures: Tensor, actions: Tensor | None) -> Place:
        """See `Memory`. Without actions only the last picture is kept: nobody knows where the others were seen from.

        The last picture is always a keyframe: from there the dream begins, and what follows is generated.
        """
        place = self.empty(torch.tensor([0.0, 0.0, 0.0, 90.0]))
        if actions is None:
            return self.keep(place, pictures[-1])
        for number, picture in enumerate(pictures):
            place = self.keep(self.ahead(place, actions[number]) if number else place, picture)
        frame = place.recent[0]
        if place.points.keyframes[-1] is frame:
            return place
        return replace(place, points=place.points.add(frame))

    @torch.inference_mode()
    def ahead(self, state: Place, action: Tensor) -> Place:
        """See `Memory`."""
        walk, actions = self.config.walk, torch.cat([state.actions[1:], action[None].float()])
        ranges = state.points.ranges(state.pose, walk.rays, walk.reach)
        moved = self.walk(actions[None], state.moved[None], ranges[None])[0]
        return self.at(replace(state, actions=actions), after(state.pose, moved), moved)

    def empty(self, pose: Tensor) -> Place:
        """The state of a player at a pose [4] who has seen nothing."""
        walk, points = self.config.walk, self.config.points.build()
        history = torch.zeros(walk.past, walk.actions), torch.zeros(walk.past, 3)
        return Place(points, pose, *history, (), points.draw(pose))

    def at(self, state: Place, pose: Tensor, moved: Tensor) -> Place:
        """The state at the next pose [4], after a motion [3]."""
        history, drawn = torch.cat([state.moved[1:], moved[None]]), state.points.draw(pose, state.recent)
        return replace(state, pose=pose, moved=history, drawn=drawn)

    @torch.inference_mode()
    def keep(self, state: Place, picture: Tensor) -> Place:
        """See `Memory`."""
        frame = Frame(picture, self.depth(picture[None])[0], state.pose)
        points = state.points.add(frame) if state.points.lacks(state.drawn) else state.points
        return replace(state, points=points, recent=(frame,))

    @torch.inference_mode()
    def chart(self, state: Place) -> Chart:
        """See `vidar.rollout.memory.Charting`."""
        x, y, _, angle = state.pose.round().long().tolist()
        cells = state.points.walls(state.pose, CHART_CELL, MOST_WALLS)
        views = [frame.pose for frame in state.points.keyframes]
        poses = torch.stack(views)[:, [0, 1, 3]] if views else torch.zeros(0, 3)
        near = (poses[:, :2] - state.pose[:2]).square().sum(1).argsort()[:MOST_VIEWS]
        return Chart(
            (x, y, angle % 360),
            tuple((east, north, turn % 360) for east, north, turn in poses[near].round().long().tolist()),
            tuple((east, north) for east, north in (cells * CHART_CELL).tolist()),
            CHART_CELL,
        )

    def packed(self, state: Place) -> dict[str, Tensor]:
        """See `Memory`: the keyframes and the last frame, with depth and poses, and the player."""
        frames = [*state.points.keyframes, *state.recent]
        parts = {name: torch.stack(one) for name, one in zip(Frame._fields, zip(*frames))}
        counts = torch.tensor([state.points.total, len(state.points.keyframes)])
        return {**parts, "counts": counts, "player": state.pose, "actions": state.actions, "moved": state.moved}

    @torch.inference_mode()
    def unpacked(self, packed: Mapping[str, Tensor]) -> Place:
        """See `Memory`."""
        total, kept = packed["counts"].tolist()
        frames = [Frame(*one) for one in zip(*(packed[name] for name in Frame._fields))] if "pose" in packed else []
        points = self.config.points.build()
        for frame in frames[:kept]:
            points = points.add(frame)
        points, pose, recent = replace(points, total=total), packed["player"], tuple(frames[kept:])
        return Place(points, pose, packed["actions"], packed["moved"], recent, points.draw(pose, recent))

    @torch.inference_mode()
    def show(self, states: Sequence[Place], codec: Codec) -> Tensor:
        """See `Memory`: the codes of the drawing with its holes filled, and MARKS for each cell."""
        drawn = [state.drawn for state in states]
        codes = codec.encode(torch.stack([filled(one.colour, one.seen) for one in drawn])[:, None])[:, 0]
        marks = torch.stack([marked(one) for one in drawn])
        return torch.cat([codes, to_sites(marks[:, :, None], self.config.patch).to(codes)], -1)


def marked(drawn: Drawn) -> Tensor:
    """[MARKS, H / CELL, W / CELL]: the share of pixels that is seen, and of them mean log depth and grain."""
    seen = drawn.seen.float()
    grain = torch.where(drawn.seen, drawn.grain, 0).clamp(max=4.0)
    share, far, coarse = F.avg_pool2d(torch.stack([seen, torch.log1p(drawn.depth / 32) * seen, grain]), CELL)
    return torch.stack([share, far / share.clamp_min(1e-3), coarse])


def filled(colour: Tensor, seen: Tensor) -> Tensor:
    """A picture uint8 [H, W, 3] whose holes have the mean colour of what is seen nearest to them, at halved sizes."""
    weight = seen[None].float()
    levels = [(colour.permute(2, 0, 1).float() * weight, weight)]
    while all(side % 2 == 0 for side in levels[-1][1].shape[-2:]):
        levels.append((F.avg_pool2d(levels[-1][0], 2), F.avg_pool2d(levels[-1][1], 2)))
    total, share = levels[-1]
    mean = total.sum((1, 2), keepdim=True) / share.sum().clamp_min(1e-6)
    whole = torch.where(share > 0, total / share.clamp_min(1e-6), mean)
    for total, share in reversed(levels[:-1]):
        coarse = whole.repeat_interleave(2, 1).repeat_interleave(2, 2)
        whole = torch.where(share > 0, total / share.clamp_min(1e-6), coarse)
    return whole.round().to(torch.uint8).permute(1, 2, 0)
