"""Ego-motion on ViZDoom (`my_way_home`, 64 x 80 pixels, 17.5 frames/s): reads turns and steps from the frames.

It measures how exactly a dream follows its keys. Record with `python scripts/record_players.py`, run `vidar train
pose`, then `python scripts/evaluate_pose.py`.
"""

from __future__ import annotations

import math
from typing import Literal

from vidar.configs.recipe import recipe
from vidar.data.loader import ClipsConfig
from vidar.nn.pose import PoseNetConfig
from vidar.train.config import TrainConfig
from vidar.train.methods.inverse_dynamics import WearConfig
from vidar.train.methods.pose import POSE, PoseConfig
from vidar.train.optim import OptimConfig

Preset = Literal["demo", "tiny"]

SIZES = {"demo": ((16, 32), (64, 96, 128)), "tiny": ((4, 8), (8, 8, 8))}  # channels of the stem and of the stages
WEAR = WearConfig(blur=1.0, light=0.15, tint=0.08, contrast=0.2, noise=0.08, intact=0.4)  # the data has blurred games
VIEW = 2 * math.degrees(math.atan(120 / 128))  # 90 degrees over 256 pixels, of which the middle 240 are kept


@recipe(status="shipped", then="python scripts/evaluate_pose.py MODEL runs/data/pose")
def pose(preset: Preset = "demo", data: str = "runs/data/pose", minutes: float = 30.0) -> TrainConfig:
    """Pose network: reads turn and step, in degrees and map units, from two neighbouring frames.

    Decoded frames are kept in memory (4.2 GB); a smaller `data.cache_bytes` decodes the rest clip by clip.
    """
    stem, widths = SIZES[preset]
    model = PoseNetConfig(height=64, width=80, view=round(VIEW, 2), stem=stem, widths=widths)
    return TrainConfig(
        name="pose_doom",
        method=PoseConfig(model=model, wear=WEAR),
        data=ClipsConfig(path=data, clip_frames=6, batch=16, extras=(POSE,), cache_bytes=8 << 30),
        optim=OptimConfig(lr=1e-3, steps=100_000, warmup_steps=100, weight_decay=0.05),
        minutes=minutes,
    )
