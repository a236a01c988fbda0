"""Record ViZDoom as players move: exploring, rests, held keys, turns and back, tapping, mashing, and any speed between.

    python scripts/record_players.py runs/data/pose --episodes 64 --split heldout --seed 1000000
    python scripts/record_players.py runs/data/pose --episodes 600
    python scripts/record_players.py runs/data/pose --episodes 300 --seed 600 --through doom

The data of recipe `pose`. In each game the explorer and a drawn player take turns, so that players begin at many places
of the map. Keys turn by a few fixed angles; beside them the game has buttons for any angle and speed here, so that a
network reads what it sees and not the nearest of these angles. --through: the frames as a world shows them at best,
encoded and decoded, with noise on the latents.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from vidar.actions import ActionSpec
from vidar.config import Config
from vidar.data.episode import Episode
from vidar.data.explore import ActionPolicy, Draws, ExplorePolicyConfig, HoldPolicyConfig, View
from vidar.data.record import record
from vidar.data.vizdoom import VizdoomConfig, scenario_file
from vidar.eval.players import players
from vidar.model.load import load_world
from vidar.rng import Rng

FRAMES = 350  # of a game
EXPLORED, PLAYED = (12, 60), (20, 100)  # shortest and longest turn of the explorer and of a player, in frames
SHARES = {"table": 0.35, "mash": 0.15, "held": 0.2, "glide": 0.3}  # Choice: half of the turns change keys often
KEYS = "MOVE_RIGHT"  # the last key of the scenario
ANY = {"TURN_LEFT_RIGHT_DELTA": 4.5, "MOVE_FORWARD_BACKWARD_DELTA": 15.0, "MOVE_LEFT_RIGHT_DELTA": 15.0}  # largest
NOISE = 0.3  # largest standard deviation on the latents, in their own unit; each game draws its own


class TakingTurns:
    """Explores; then a player's table, mashing, held keys or any speed; and so on. All draws are those of the seed."""

    def __init__(self, fps: float) -> None:
        self.fps = fps

    def start(self, spec: ActionSpec, rng: Rng) -> None:
        """Start a new episode."""
        self.width, self.keys = spec.width, ActionSpec(actions=spec.actions[: -len(ANY)])
        self.tables, self.seed, self.turns = players(self.keys, self.fps), rng.seed, 0
        self.draws = Draws(Rng(rng.seed, 1))  # the explorer has those of Rng(seed)
        self.explorer, self.holder = ExplorePolicyConfig().build(), HoldPolicyConfig(p_rest=0.6).build()
        self.explorer.start(self.keys, rng)
        self.holder.start(self.keys, Rng(rng.seed, 2))
        self.exploring, self.left = False, 0

    def __call__(self, view: View) -> np.ndarray:
        """The next action row."""
        if self.left == 0:
            self._next()
        self.left -= 1
        row = next(self.rows) if self.rows is not None else self.playing(view)
        return np.concatenate([row, np.zeros(self.width - len(row), np.float32)])

    def _next(self) -> None:
        """Whose turn it is, and for how long."""
        self.exploring, self.turns, self.rows = not self.exploring, self.turns + 1, None
        self.left = self.draws.integer(*(EXPLORED if self.exploring else PLAYED))
        kind = "explore" if self.exploring else self.draws.pick(SHARES)
        self.playing: ActionPolicy = self.explorer if self.exploring else self.holder
        if kind == "glide":
            self.rows = self._glide()
        elif kind in ("table", "mash"):
            names = list(self.tables) if kind == "table" else ["mash"]
            name = names[self.draws.integer(0, len(names) - 1)]
            self.rows = iter(self.tables[name](self.left, self.seed * 100 + self.turns))

    def _glide(self) -> Iterator[np.ndarray]:
        """Any turn and speed, each at rest two times of five, held for a while; now and then running forward too."""
        while True:
            row = np.zeros(self.width, np.float32)
            for column, most in enumerate(ANY.values(), self.width - len(ANY)):
                way = (2 * self.draws.uniform() - 1) * most
                row[column] = way if self.draws.uniform() < 0.6 else 0.0
            row[self.keys.names.index("MOVE_FORWARD")] = self.draws.uniform() < 0.25
            for _ in range(self.draws.integer(4, 24)):
                yield row


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
        TakingTurns(VizdoomConfig().fps),
        given.out,
        episodes=given.episodes,
        seed=given.seed,
        split=given.split,
        progress=lambda done, total: print(f"{done} of {total} episodes", end="\r", file=sys.stderr),
    )
    print(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
