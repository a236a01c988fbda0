"""Inverse dynamics on ViZDoom (`my_way_home`, 64 x 80 pixels, 17.5 frames/s): reads the keys from the frames.

It measures whether a dream obeys its keys. `vidar train idm`, then `python scripts/evaluate_idm.py`.
"""

from __future__ import annotations

from typing import Literal

from vidar.configs.doom import ACTIONS
from vidar.configs.recipe import recipe
from vidar.data.loader import ClipsConfig
from vidar.nn.inverse_dynamics import InverseDynamicsNetConfig, KeyGroup
from vidar.train.config import TrainConfig
from vidar.train.methods.inverse_dynamics import InverseDynamicsConfig
from vidar.train.optim import OptimConfig

Preset = Literal["demo", "tiny"]

# preset: number of frames read before and after the frame of a step, channels of the stem and of the stages. Keys are
# held for several steps, and in front of a plain wall only more distant frames reveal a turn.
SIZES = {"demo": ((4, 3), (16, 32), (64, 128, 128)), "tiny": ((2, 1), (4, 8), (8, 8, 8))}
GROUPS = {
    "turning": KeyGroup(classes=(("TURN_LEFT",), ("TURN_RIGHT",)), axis="turn", signs=(1, -1)),
    "forward": KeyGroup(classes=(("MOVE_FORWARD",),), axis="ahead", signs=(1,)),
    "sideways": KeyGroup(classes=(("MOVE_LEFT",), ("MOVE_RIGHT",)), axis="left", signs=(1, -1)),
}
# how often no key and each key of a group is down in recorded play
SHARES = {"turning": (0.40, 0.30, 0.30), "forward": (0.58, 0.42), "sideways": (0.90, 0.05, 0.05)}


@recipe(status="shipped", then="vidar eval WORLD --suite world --idm MODEL --out runs/eval")
def idm(preset: Preset = "demo", data: str = "runs/data/doom", minutes: float = 45.0) -> TrainConfig:
    """Inverse-dynamics network: reads the turning, forward and sideways keys of a step from the surrounding frames.

    Decoded frames are kept in memory (6.7 GB); a smaller `data.cache_bytes` decodes the rest clip by clip.
    """
    (before, after), stem, widths = SIZES[preset]
    model = InverseDynamicsNetConfig(
        spec=ACTIONS, groups=GROUPS, height=64, width=80, before=before, after=after, stem=stem, widths=widths
    )
    return TrainConfig(
        name="idm_doom",
        method=InverseDynamicsConfig(model=model, shares=SHARES),
        data=ClipsConfig(path=data, clip_frames=model.window + 4, batch=16, cache_bytes=8 << 30),
        optim=OptimConfig(lr=2e-3, steps=100_000, warmup_steps=200, weight_decay=0.05),
        minutes=minutes,
    )
