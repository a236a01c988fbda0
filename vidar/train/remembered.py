"""Clips of latents with what a memory of points shows before each frame, from the true poses of the recordings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from vidar.cache.points import Frame, PointsConfig
from vidar.config import to_dict
from vidar.data.episode import Episode
from vidar.data.index import load_index
from vidar.model.geometry import MARKS, filled, marked
from vidar.nn.depth import DepthNet
from vidar.nn.pretrained import load_component
from vidar.rng import Rng
from vidar.tokenizers.patch import to_sites
from vidar.train.encoded import Encoding, Part, component_digest
from vidar.train.latents import LatentBatch, LatentClips, LatentClipsConfig, codes
from vidar.types import UsageError, VidarError

POSE = "pose"  # the extra that recorders write
FORM = 2  # of what is shown: another number where the rules of the cloud change
TOGETHER = 32  # frames whose depth is read in one call


class RememberedClipsConfig(LatentClipsConfig):
    """As LatentClipsConfig, with the views of a memory whose depth network is in directory `depth`.

    In each episode the memory sees all earlier frames, as in play, but at their true poses. rays, reach: see
    `vidar.nn.walk.WalkNetConfig`. blind: share of clips of which nothing is shown. noise: the largest standard
    deviation of noise on the codes that are shown; each clip draws its own. Choice: 0.1, because in play they show
    generated frames at predicted poses.
    """

    depth: str
    points: PointsConfig
    rays: int = Field(default=32, ge=4)
    reach: float = Field(default=160.0, gt=0)
    blind: float = Field(default=0.1, ge=0, le=1)
    noise: float = Field(default=0.1, ge=0)

    def build(self) -> RememberedClips:
        """As `LatentClipsConfig.build`. Raises UsageError for a depth network that is missing or reads other frames."""
        return RememberedClips(self)


class RememberedClips(LatentClips):
    """`batch(index)` is a pure function of the index. ranges float32 [N, rays], pose [N, 4]: of each frame."""

    def __init__(self, config: RememberedClipsConfig):
        self.config: RememberedClipsConfig = config
        super().__init__(config)
        tensors = self.stored.tensors
        self.views, self.ranges, self.pose = (tensors[name] for name in ("views", "ranges", "pose"))

    def batch(self, index: int) -> LatentBatch:
        """Running batch `index`, from 0."""
        rows, numbers, _ = self.windows_of(index)
        views, c = self.views[rows].float(), self.config
        shown = views.shape[-1] - MARKS * c.patch**2
        for view, number in zip(views, numbers.tolist(), strict=True):
            rng = Rng(c.seed, number)
            if float(rng.uniform("shown_share")) < c.blind:
                view.zero_()
            else:
                noise = rng.normal("shown_noise", shape=view[..., :shown].shape).to(view)
                view[..., :shown] += c.noise * float(rng.uniform("shown_level")) * noise
        return replace(super().batch(index), views=views)

    def encoding(self, weights: str) -> Encoding:
        """As for latents, with views, poses, and ranges of the walls from each pose."""
        c, index = self.config, load_index(self.config.path)
        net = _depth(c.depth, (index.height, index.width), c.points)
        settings = {
            "weights": weights,
            "patch": c.patch,
            "depth": component_digest(c.depth),
            "points": to_dict(c.points),
            "rays": [c.rays, c.reach],
            "form": FORM,
        }
        plain = super().encoding(weights)

        def made(episodes: Iterator[Episode]) -> Part:
            kept = list(episodes)
            part = plain.make(iter(kept))
            seen = [remembered(episode, net, c) for episode in kept]
            names = "views", "ranges", POSE
            return Part({**part.tensors, **{n: torch.cat(one) for n, one in zip(names, zip(*seen))}}, part.names)

        def frame_bytes() -> float:
            cells = index.height * index.width // 64
            return plain.frame_bytes() * 2 + 2 * MARKS * cells + 4 * (c.rays + 4)

        return replace(plain, kind="remembered", settings=settings, make=made, frame_bytes=frame_bytes, extras=(POSE,))


@torch.inference_mode()
def remembered(episode: Episode, net: DepthNet, config: RememberedClipsConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Views bfloat16 [T, n, W], ranges float32 [T, rays] and poses float32 [T, 4] of an episode.

    Raises VidarError for an episode without poses.
    """
    if POSE not in episode.extras:
        raise VidarError(f"{config.path}: {episode.name} has no pose; a memory needs it, record the game again")
    frames, poses = torch.from_numpy(episode.frames.copy()), torch.from_numpy(episode.extras[POSE].copy()).float()
    with torch.autocast("cpu", torch.bfloat16):
        depth = torch.cat([net(part) for part in frames.split(TOGETHER)])
    points, recent = config.points.build(), tuple[Frame, ...]()
    shown, marks, ranges = list[Tensor](), list[Tensor](), list[Tensor]()
    for picture, far, pose in zip(frames, depth, poses):
        drawn = points.draw(pose, recent)
        shown.append(filled(drawn.colour, drawn.seen))
        marks.append(marked(drawn))
        ranges.append(points.ranges(pose, config.rays, config.reach))
        recent = (Frame(picture, far, pose),)
        points = points.add(recent[0]) if points.lacks(drawn) else points
    seen = codes(load_component(config.tokenizer), torch.stack(shown).numpy(), config.patch)
    beside = to_sites(torch.stack(marks)[:, :, None], config.patch).to(seen)
    return torch.cat([seen, beside], -1), torch.stack(ranges), poses


def _depth(folder: str, size: tuple[int, int], points: PointsConfig) -> DepthNet:
    if not Path(folder).is_dir():
        raise UsageError(f"{folder}: no depth network there; train one first: vidar train depth_doom")
    net = DepthNet.from_pretrained(folder)
    for name, own in (("depth network", net.config), ("data.points", points)):
        if (own.height, own.width) != size:
            raise UsageError(
                f"{folder}: the frames are {size[0]} x {size[1]}, the {name} has {own.height} x {own.width}"
            )
    return net
