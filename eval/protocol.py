"""The protocol for evaluating worlds.

It is fixed: every change needs a line in CHANGELOG and makes old figures invalid.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from vidar.config import Config
from vidar.types import UsageError

LEAST_EPISODES, LEAST_FRAMES = 2, 16


class WorldProtocol(Config):
    """Held-out games, horizon, noise, and the frames over which the headline numbers are averaged.

    The context is the world's own (`VideoModelConfig.context` frames), and so is the sampler unless `steps` is given.
    Games are played one by one from `first_game` + `games_per_seed` * `seed` on; a game that ends before its last
    frame is left out. Training plays the games from 0, the held-out shards those from 1,000,000. Ranges of frames
    count from 1 and include both ends.
    """

    scenario: str = "my_way_home"
    first_game: int = 2_000_000
    games_per_seed: int = 10_000
    episodes: int = 64
    frames: int = 64
    seed: int = 0  # of the noise and of the games
    steps: int | None = Field(default=None, ge=1)
    over_copy_last: tuple[int, int] = (1, 16)
    over_shuffled_actions: tuple[int, int] = (4, 16)  # actions need some frames to take effect
    means: tuple[int, int] = (1, 16)  # range for PSNR, SSIM and the sharpness ratio

    @model_validator(mode="after")
    def _check(self) -> WorldProtocol:
        if self.episodes < LEAST_EPISODES or self.frames < LEAST_FRAMES or not 0 <= self.seed <= self.last_seed:
            raise UsageError(
                f"an evaluation needs at least {LEAST_EPISODES} episodes, at least {LEAST_FRAMES} frames and a seed of "
                f"0 to {self.last_seed}, not {self.episodes}, {self.frames} and {self.seed}"
            )
        return self

    @property
    def last_seed(self) -> int:
        """The last seed whose game numbers fit into 32 bits, which the engine requires."""
        return (2**32 - self.first_game) // self.games_per_seed - 1

    @property
    def game(self) -> int:
        """The first game that is played."""
        return self.first_game + self.games_per_seed * self.seed


WORLD = WorldProtocol()
DEMO = WorldProtocol(episodes=32, frames=48)  # the first games of the same list
GAINS = {"copy_last": WORLD.over_copy_last, "shuffled_actions": WORLD.over_shuffled_actions}


def span(frames: tuple[int, int]) -> slice:
    """First and last frame, counted from 1 -> indices."""
    return slice(frames[0] - 1, frames[1])
