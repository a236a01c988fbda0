"""Reward and end of a world on held-out play: on the recorded frames, and on what it dreams under the recorded keys.

    python scripts/evaluate_outcome.py runs/outcome/model runs/data/doom

R2 of the reward stands beside those of always answering the mean (0 by definition) and the last reward. The end has
balanced accuracy, precision and recall, and the counts they come from. Dreamed are the first 16 frames after real
context, at the begin and at the end of every episode that is long enough; ends are more frequent there than in play.
"""

from __future__ import annotations

import sys

from vidar.eval.outcome import (
    EndScore,
    Judged,
    RewardScore,
    end_score,
    on_dreams,
    on_recorded,
    plays,
    reward_score,
    together,
)
from vidar.types import VidarError
from vidar.world.load import load


def main(model: str, data: str, split: str = "heldout") -> None:
    """Print two lines for recorded frames and two for dreamed ones."""
    world = load(model)
    if world.outcome is None:
        raise VidarError(f"{model}: has no head of reward and end; vidar train outcome world={model} gives it one")
    recorded, dreamed, count = [], [], 0
    for count, play in enumerate(plays(world, data, split), 1):
        recorded.append(on_recorded(world, play))
        dreamed += on_dreams(world, [play], seed=count)
    print(f"{model} on {count} episodes of {data} ({split})")
    for name, parts in (("recorded", recorded), ("dreamed", dreamed)):
        show(name, together(parts))


def show(name: str, steps: Judged) -> None:
    """Reward and end of a set of steps."""
    for line in (reward_line(reward_score(steps)), end_line(end_score(steps))):
        print(f"{name:>9} {line}")


def reward_line(score: RewardScore) -> str:
    """R2 beside the baselines."""
    return f"reward R2 {score.world:.3f} (mean 0, last reward {score.last:.3f}; {score.count} steps)"


def end_line(score: EndScore) -> str:
    """Shares beside the counts."""
    (quiet, false), (missed, right) = score.table.tolist()
    shares = f"precision {score.precision:.3f} recall {score.recall:.3f}"
    counts = f"{right} of {right + missed} ends found, {false} false among {quiet + false} other steps"
    return f"end balanced accuracy {score.balanced_accuracy:.3f} {shares} ({counts})"


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except VidarError as error:
        sys.exit(str(error))
