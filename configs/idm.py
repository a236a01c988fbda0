"""Inverse dynamics of ViZDoom (`my_way_home`, 64 x 80, 17.5 frames/s): the keys of a step from the frames around it.

It judges whether a dream obeys its keys. `vidar train idm`, then `python scripts/evaluate_idm.py`.
"""

from __future__ import annotations

from typing import Literal

from vidar.configs.doom import ACTIONS
from vidar.data.loader import ClipsConfig
from vidar.nn.inverse_dynamics import InverseDynamicsNetConfig, KeyGroup
from vidar.train.fit import TrainConfig
from vidar.train.methods.inverse_dynamics import InverseDynamicsConfig
from vidar.train.optim import OptimConfig

Preset = Literal["demo", "tiny"]

WIDTHS = {"demo": (24, 48, 96, 128), "tiny": (8, 8, 8, 8)}
GROUPS = {
    "turning": KeyGroup(classes=(("TURN_LEFT",), ("TURN_RIGHT",)), axis="turn", signs=(1, -1)),
    "forward": KeyGroup(classes=(("MOVE_FORWARD",),), axis="ahead", signs=(1,)),
    "sideways": KeyGroup(classes=(("MOVE_LEFT",), ("MOVE_RIGHT",)), axis="left", signs=(1, -1)),
}


def idm(preset: Preset = "demo", data: str = "runs/data/doom", minutes: float = 12.0) -> TrainConfig:
    """Inverse-dynamics network: turning, forward and sideways keys of a step from the frames around it."""
    model = InverseDynamicsNetConfig(spec=ACTIONS, groups=GROUPS, height=64, width=80, widths=WIDTHS[preset])
    return TrainConfig(
        name="idm_doom",
        method=InverseDynamicsConfig(model=model),
        data=ClipsConfig(path=data, clip_frames=model.window + 5, batch=12, cache_bytes=3 << 30),
        optim=OptimConfig(lr=2e-3, steps=100_000, warmup_steps=200, weight_decay=0.05),
        minutes=minutes,
    )
