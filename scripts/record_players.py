"""Record ViZDoom as players move: exploring, rests, held keys, turns and back, tapping, mashing, and any speed between.

    python scripts/record_players.py runs/data/pose --episodes 64 --split heldout --seed 1000000
    python scripts/record_players.py runs/data/pose --episodes 600
    python scripts/record_players.py runs/data/pose --episodes 300 --seed 600 --through doom

The data of recipe `pose`, played by the policy `mixture`. Keys turn by a few fixed angles; beside them the game has
buttons for any angle and speed here, so that a network reads what it sees and not the nearest of these angles.
--through: the frames as a world shows them at best, encoded and decoded, with noise on the latents.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from vidar.actions import ActionSpec
from vidar.config import Config
from vidar.data.episode import Episode
from vidar.data.explore import ActionPolicy
from vidar.data.mixture import MixturePolicyConfig
from vidar.data.record import record
from vidar.data.vizdoom import VizdoomConfig, scenario_file
from vidar.model.load import load_world
from vidar.rng import Rng

FRAMES = 350  # of a game
KEYS = "MOVE_RIGHT"  # the last key of the scenario
ANY = {"TURN_LEFT_RIGHT_DELTA": 4.5, "MOVE_FORWARD_BACKWARD_DELTA": 15.0, "MOVE_LEFT_RIGHT_DELTA": 15.0}  # largest
NOISE = 0.3  # largest standard deviation on the latents, in their own unit; each game draws its own


class AnySpeedConfig(Config):
    """my_way_home with buttons for any angle and speed. through: a world, whose tokenizer the frames pass; "": none."""

    frames: int = FRAMES
    through: str = ""

    def build(self) -> AnySpeed:
        """Start the game."""
        return AnySpeed(self)


class AnySpeed:
    """See AnySpeedConfig."""

    def __init__(self, config: AnySpeedConfig) -> None:
        self.world = load_world(config.through, "cpu") if config.through else None
        self.folder = tempfile.TemporaryDirectory(prefix="vidar-any-speed-")
        known = scenario_file("my_way_home")
        shutil.copy(known.with_suffix(".wad"), self.folder.name)
        own = Path(self.folder.name) / known.name
        own.write_text(known.read_text().replace(KEYS, "\n".join((KEYS, *ANY))))
        self.game = VizdoomConfig(scenario=str(own), frames=config.frames).build()
        slower = (a.replace(low=-ANY[a.name], high=ANY[a.name]) if a.name in ANY else a for a in self.game.spec.actions)
        self.game.spec = ActionSpec(actions=tuple(slower))
        self.spec, self.fps = self.game.spec, self.game.config.fps

    def episode(self, seed: int, policy: ActionPolicy | None = None) -> Episode:
        """The episode of a seed."""
        played = self.game.episode(seed, policy)
        return played if self.world is None else replace(played, frames=self._seen(played.frames, seed))

    def _seen(self, frames: np.ndarray, seed: int) -> np.ndarray:
        assert self.world is not None
        codes = self.world.encode(torch.from_numpy(frames.copy())[None])
        rng = Rng(seed)
        noise = rng.normal("outcome_noise", shape=codes.shape).to(codes)
        codes = codes + NOISE * float(rng.uniform("outcome_level")) * codes.std() * noise
        return self.world.decode(codes)[0][0].numpy()

    def close(self) -> None:
        """Stop the game."""
        self.game.close()
        self.folder.cleanup()


def main() -> None:
    """Record, and print what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--episodes", type=int, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--through", default="", metavar="WORLD")
    given = parser.parse_args()
    made = record(
        cast(Any, AnySpeedConfig(through=given.through)),
        MixturePolicyConfig().build(),
        given.out,
        episodes=given.episodes,
        seed=given.seed,
        split=given.split,
        progress=lambda done, total: print(f"{done} of {total} episodes", end="\r", file=sys.stderr),
    )
    print(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
