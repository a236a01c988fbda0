"""Steps of recorded play: two latent frames, the action between them, its reward, and whether the episode ended.

Rewards and ends are the extras `rewards` and `ended` of the episodes. If an episode was recorded without one of them,
its values are NaN and do not contribute to the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vidar.config import Config
from vidar.data.index import load_index
from vidar.data.reader import read_extra, read_side, samples
from vidar.model.load import load_world_config, locate
from vidar.model.model import VideoModelConfig
from vidar.train.latents import LatentClipsConfig
from vidar.types import VidarError

EXTRAS = ("rewards", "ended")


@dataclass(frozen=True)
class OutcomeBatch:
    """codes bfloat16 [B, 2, n, C]; actions float32 [B, A]; rewards, ended float32 [B], NaN where it was not recorded;
    number long [B]; names."""

    codes: Tensor
    actions: Tensor
    rewards: Tensor
    ended: Tensor
    number: Tensor
    names: Sequence[str]


class OutcomeClipsConfig(Config):
    """Steps of the shards at `path`, encoded once by the tokenizer of `world`, a directory or shipped name.

    cache: see `LatentClipsConfig`.
    """

    path: str
    world: str
    split: str = "train"
    batch: int = Field(default=256, ge=1)
    seed: int = 0
    cache: str | None = None

    def build(self) -> OutcomeClips:
        """Read the data. Raises VidarError if it does not fit the world, or contains nothing to learn."""
        return OutcomeClips(self)


class OutcomeClips:
    """`batch(index)` is a pure function of the index.

    reward_scale: root mean square of the rewards, or 1 if all are 0.
    """

    def __init__(self, config: OutcomeClipsConfig):
        folder = locate(config.world)
        world = load_world_config(folder)
        check_known(config.path, world)
        self.names, rewards, ended = recorded(config.path, config.split)
        self.rewards, self.ended = torch.cat(rewards), torch.cat(ended)
        self.reward_scale = check(config.path, rewards, ended)
        self.clips = LatentClipsConfig(
            path=config.path,
            tokenizer=str(folder / "tokenizer"),
            split=config.split,
            clip_frames=2,
            batch=config.batch,
            patch=world.patch,
            seed=config.seed,
            cache=config.cache,
        ).build()
        if self.clips.names != self.names or len(self.clips.codes) != len(self.rewards):
            raise VidarError(f"{config.path}: shards were added while it was read; start again")

    def batch(self, index: int) -> OutcomeBatch:
        """Running batch `index`, from 0."""
        rows, numbers, names = self.clips.windows_of(index)
        now = rows[:, 1]
        actions, rewards, ended = self.clips.actions[now], self.rewards[now], self.ended[now]
        return OutcomeBatch(self.clips.codes[rows], actions, rewards, ended, numbers, names)


def check_known(path: str, world: VideoModelConfig) -> None:
    """Raises VidarError if the frame size or the actions of the data differ from those of the world."""
    data = load_index(path)
    if (data.height, data.width, data.spec) != (world.height, world.width, world.actions):
        raise VidarError(
            f"{path}: its size or actions are not those of world {world.name!r}; use data of the world's game"
        )


def recorded(path: str, split: str) -> tuple[list[str], list[Tensor], list[Tensor]]:
    """Name, rewards float32 [T] and ended float32 [T] of every episode, in writing order; NaN: not recorded.

    Raises VidarError naming a sample whose extras are not T finite numbers.
    """
    names: list[str] = []
    found: dict[str, list[Tensor]] = {extra: [] for extra in EXTRAS}
    for sample in samples(path, load_index(path), split):
        side = read_side(sample)
        names.append(sample.key)
        for extra, values in found.items():
            column = np.full(side["n_frames"], np.nan, np.float32)
            if extra in side["sha256_extras"]:
                column = read_extra(sample, side, extra)
                if column.ndim != 1 or column.dtype.kind not in "bfiu" or not np.isfinite(column).all():
                    raise VidarError(f"{sample.name}: extra {extra!r} is not one finite number per frame")
            values.append(torch.from_numpy(column.astype(np.float32)))
    return names, found["rewards"], found["ended"]


def check(path: str, rewards: Sequence[Tensor], ended: Sequence[Tensor]) -> float:
    """The root mean square of the rewards of all steps; frame 0 of an episode is not a step.

    Raises VidarError if there is nothing to learn: the rewards do not vary and no episode ends.
    """
    brought = torch.cat([values[1:] for values in rewards]).double()
    brought = brought[~brought.isnan()]
    ends = int(sum(values[1:].nansum() for values in ended))
    if not ends and (not len(brought) or brought.min() == brought.max()):
        raise VidarError(
            f"{path}: nothing to learn, its rewards do not vary and no game in it ends by itself (or neither was "
            "recorded, as by earlier versions); record it again"
        )
    return float(brought.square().mean().sqrt()) if brought.any() else 1.0
