"""Does a dream obey its keys? An inverse-dynamics model reads the keys back, from the game and from the dreams.

real              from the real frames: the upper limit
model             from the dream under the true actions
shuffled_actions  from the dream under another episode's actions, compared with the true ones: the lower limit
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidar.data.episode import Episode
from vidar.eval.inverse_dynamics import action_scores, shipped
from vidar.eval.world_eval import WorldScores
from vidar.model.model import VideoModelConfig
from vidar.nn.inverse_dynamics import InverseDynamicsNet
from vidar.types import UsageError

Score = Mapping[str, float | None]  # by key group, and "mean"; None: no step can be judged


@dataclass(frozen=True)
class Reader:
    """The inverse-dynamics model, or None with the reason why there is none."""

    net: InverseDynamicsNet | None
    name: str
    reason: str = ""


def reader(world: VideoModelConfig, idm: str | os.PathLike[str] | None = None) -> Reader:
    """The network of `idm`, or the one that ships for the world's name.

    Raises UsageError if `idm` does not fit the world. A shipped model that does not fit is not used, with the reason.
    """
    if idm is not None:
        net = InverseDynamicsNet.from_pretrained(idm)
        problem = misfit(net, world)
        if problem:
            raise UsageError(f"{idm}: {problem}; train one with `vidar train idm` on the data of this world")
        return Reader(net, str(idm))
    folder = shipped(world.name)
    if folder is None:
        return Reader(None, "", f"no inverse-dynamics model ships for world '{world.name}'; give one with --idm")
    net = InverseDynamicsNet.from_pretrained(folder)
    problem = misfit(net, world)
    if problem:
        return Reader(
            None, "", f"the model shipped for '{world.name}' does not fit: {problem}; give another with --idm"
        )
    return Reader(net, f"the model shipped for '{world.name}'")


def misfit(net: InverseDynamicsNet, world: VideoModelConfig) -> str:
    """Why a network cannot read this world, or ""."""
    config = net.config
    if (config.height, config.width) != (world.height, world.width):
        return f"it needs frames of {config.height} x {config.width}, the world has {world.height} x {world.width}"
    if config.spec.names != world.spec.names:
        return f"it knows the actions {', '.join(config.spec.names)}, the world {', '.join(world.spec.names)}"
    return ""


def read_back(
    net: InverseDynamicsNet, scores: WorldScores, episodes: Sequence[Episode], context_frames: int
) -> dict[str, Score]:
    """real, model, shuffled_actions -> balanced accuracy by key group and "mean" over the generated frames.

    Real context frames precede the generated ones, so that the first step has its window; the last `after` frames of
    the horizon have none. Steps are judged by the recorded poses if every episode has them.
    """
    frames = scores.real.shape[1]
    lead = min(net.config.before, context_frames)
    rows = slice(context_frames - lead, context_frames + frames)
    before = np.stack([e.frames[context_frames - lead : context_frames] for e in episodes])  # [E, lead, H, W, 3]
    actions = np.stack([e.actions[rows] for e in episodes])
    posed = all("pose" in e.extras for e in episodes)
    poses = np.stack([e.extras["pose"][rows] for e in episodes]) if posed else None
    videos = {"real": scores.real, "model": scores.dreamed, "shuffled_actions": scores.shuffled}
    found = {
        name: action_scores(net, np.concatenate([before, video], axis=1), actions, poses)
        for name, video in videos.items()
    }
    return {
        name: {key: _plain(score.get(key)) for key in (*net.config.groups, "mean")} for name, score in found.items()
    }


def chance(net: InverseDynamicsNet) -> dict[str, float]:
    """The score of guessing, by key group and "mean": one over the number of labels."""
    each = {name: 1.0 / len(group.labels) for name, group in net.config.groups.items()}
    return {**each, "mean": sum(each.values()) / len(each)}


def _plain(value: float | None) -> float | None:
    return round(float(value), 4) if value is not None and math.isfinite(value) else None
