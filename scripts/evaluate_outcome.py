"""Evaluate reward and end of a world on held-out play: on recorded frames, and on its dreams under the recorded keys.

    python scripts/evaluate_outcome.py runs/outcome/model runs/data/doom [heldout] [--record outcome]

R2 of the reward is compared with always predicting the mean (0 by definition) and with repeating the last reward. The
end has balanced accuracy, precision and recall, and the counts behind them. The dreams are the first 16 frames after
real context, at the start and at the end of every episode that is long enough; ends are more frequent there than in
play.
"""

from __future__ import annotations

import argparse
import math
import sys

from vidar.configs.figures import Figure
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
from vidar.eval.record import Found, check_record, command_line, record
from vidar.model.load import load
from vidar.types import VidarError


def main(model: str, data: str, split: str = "heldout") -> Found:
    """Print two lines for recorded frames and two for dreamed ones; their figures."""
    world = load(model)
    if world.outcome is None:
        raise VidarError(f"{model}: has no head for reward and end; `vidar train outcome world={model}` adds one")
    recorded, dreamed, count = [], [], 0
    for count, play in enumerate(plays(world, data, split), 1):
        recorded.append(on_recorded(world, play))
        dreamed += on_dreams(world, [play], seed=count)
    print(f"{model} on {count} episodes of {data} ({split})")
    found = list[Figure]()
    for name, parts in (("recorded", recorded), ("dreamed", dreamed)):
        steps = together(parts)
        show(name, steps)
        found += figures(name, reward_score(steps), end_score(steps))
    found = [figure for figure in found if math.isfinite(figure.value)]
    return f"{count} held-out episodes", found


def figures(frames: str, reward: RewardScore, end: EndScore) -> list[Figure]:
    """The figures to store, for one kind of frames."""
    main, baseline = ("main", "baseline") if frames == "recorded" else ("detail", "detail")
    return [
        Figure(name=f"R2 of the reward, {frames} frames", value=reward.world, digits=3, role=main),
        Figure(name=f"R2 of the last reward, {frames} frames", value=reward.last, digits=3, role=baseline),
        Figure(name=f"balanced accuracy of the end, {frames} frames", value=end.balanced_accuracy, digits=3),
    ]


def show(name: str, steps: Judged) -> None:
    """Print reward and end of a set of steps."""
    for line in (reward_line(reward_score(steps)), end_line(end_score(steps))):
        print(f"{name:>9} {line}")


def reward_line(score: RewardScore) -> str:
    """R2 and its baselines."""
    return f"reward R2 {score.world:.3f} (mean 0, last reward {score.last:.3f}; {score.count} steps)"


def end_line(score: EndScore) -> str:
    """The shares and the counts behind them."""
    (quiet, false), (missed, right) = score.table.tolist()
    shares = f"precision {score.precision:.3f} recall {score.recall:.3f}"
    counts = f"{right} of {right + missed} ends found, {false} false among {quiet + false} other steps"
    return f"end balanced accuracy {score.balanced_accuracy:.3f} {shares} ({counts})"


def command() -> None:
    """Evaluate, and store the figures beside the recipe if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("split", nargs="?", default="heldout")
    parser.add_argument("--record", metavar="RECIPE")
    given = parser.parse_args()
    check_record(given.record)
    found = main(given.model, given.data, given.split)
    if given.record:
        record(given.record, command_line(sys.argv[0], sys.argv[1:]), found, given.model)


if __name__ == "__main__":
    try:
        command()
    except VidarError as error:
        sys.exit(str(error))
