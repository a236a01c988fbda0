"""Reward and end of episode for a trained world, which `Vidar/World-v0` then returns (after DIAMOND).

The data needs the extras `rewards` and `ended`, which every recorder writes. Run `vidar train outcome data=FOLDER
world=WORLD`, then `vidar eval runs/outcome/model --suite outcome --data FOLDER --out runs/eval`; minutes are on one
thread. Without a trained world, the recipe assumes that of own.py, so that it can be inspected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vidar.configs.frame_world import TINY, frame_world
from vidar.configs.own import NOTHING_YET
from vidar.configs.recipe import recipe
from vidar.model.load import CONFIG, load_world_config, locate, shipped
from vidar.model.model import VideoModelConfig
from vidar.nn.outcome import OutcomeNetConfig
from vidar.train.config import TrainConfig
from vidar.train.methods.outcome import OutcomeConfig
from vidar.train.optim import OptimConfig
from vidar.train.outcomes import OutcomeClipsConfig

Preset = Literal["small", "tiny"]

SIZES = {"small": (64, 8, 128), "tiny": (16, 4, 32)}  # channels, values kept per site, width of the read-out


@recipe(status="trainable")
def outcome(
    preset: Preset = "small", data: str = "runs/data/own", world: str = "runs/world_own/model", minutes: float = 5.0
) -> TrainConfig:
    """Predicts reward and end of episode in a trained world, from two latent frames and the action between them."""
    known = _world(world)
    rows, columns = known.sites
    width, kept, hidden = SIZES[preset]
    head = OutcomeNetConfig(
        spec=known.spec, rows=rows, columns=columns, channels=known.channels, width=width, kept=kept, hidden=hidden
    )
    return TrainConfig(
        name="outcome",
        method=OutcomeConfig(world=world, head=head),
        data=OutcomeClipsConfig(path=data, world=world),
        optim=OptimConfig(lr=1e-3, steps=20_000, warmup_steps=100, weight_decay=0.05),
        minutes=minutes,
    )


def _world(name: str) -> VideoModelConfig:
    """The config of the world, or a stand-in if there is no such world yet; training then refuses the name."""
    if (Path(name) / CONFIG).is_file() or name in shipped():
        return load_world_config(locate(name))
    return frame_world(NOTHING_YET, TINY)
