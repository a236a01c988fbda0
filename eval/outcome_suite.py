"""The suite `outcome`: reward and end of episode on recorded play, and on dreams under the recorded actions.

R2 of the reward is compared with always predicting the mean (0 by definition) and with repeating the last reward. The
dreams are the first 16 frames after real context, at the start and at the end of every episode that is long enough;
ends are more frequent there than in play.
"""

from __future__ import annotations

import math
import os
from typing import Any

from vidar.eval.outcome import Judged, end_score, on_dreams, on_recorded, plays, reward_score, together
from vidar.eval.output import MARK, begin, folder, write
from vidar.eval.paired import fingerprint_of
from vidar.eval.provenance import hardware, versions
from vidar.eval.report import Section, facts, page, table
from vidar.eval.suite_figures import of_outcome
from vidar.model.load import load_world
from vidar.types import UsageError, VidarError

KINDS = ("recorded", "dreamed")
MADE_FROM = ("model", "data", "split", "seed")


def run(
    model: str,
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    split: str = "heldout",
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Judge every episode of a split of recorded data; write report.html and report.json. Returns the latter's content.

    Raises UsageError without data, VidarError for a world without a head for reward and end or for damaged data.
    """
    if data is None:
        raise UsageError("suite 'outcome' needs recorded play with rewards and ends: --data FOLDER")
    place, world = folder(out), load_world(model, device)
    if world.outcome is None:
        raise VidarError(f"{model}: has no head for reward and end; `vidar train outcome world={model}` adds one")
    recorded, dreamed, seen = list[Judged](), list[list[Judged]](), list[str]()
    for count, play in enumerate(plays(world, str(data), split), 1):
        recorded.append(on_recorded(world, play))
        dreamed.append(on_dreams(world, [play], seed=seed + count))
        seen.append(fingerprint_of(play.frames))
    windows = [window for episode in dreamed for window in episode]
    scores = {kind: _scores(together(parts)) for kind, parts in zip(KINDS, (recorded, windows), strict=True)}
    made = {"world": world.config.name, "model": str(model), "data": str(data), "split": split, "episodes": len(seen)}
    made |= {"seed": seed, **scores, "versions": versions(), "hardware": hardware()}
    judged = dict(zip(KINDS, (recorded, [together(parts) if parts else None for parts in dreamed]), strict=True))
    made |= of_outcome(seen, judged, world.config.context, world.config.fps).entries()
    begin(place)
    write(place / "report.html", _page(made))
    write(place / MARK, made)
    return made


def _scores(steps: Judged) -> dict[str, Any]:
    """Reward and end of a set of steps as plain data; None where something was not recorded or never happened."""
    reward, end = reward_score(steps), end_score(steps)
    (quiet, false), (missed, found) = end.table.tolist()
    return {
        "reward": {"r2": _plain(reward.world), "r2_of_last_reward": _plain(reward.last), "steps": reward.count},
        "end": {
            **{name: _plain(getattr(end, name)) for name in ("balanced_accuracy", "precision", "recall")},
            "found": found,
            "missed": missed,
            "false_alarms": false,
            "other_steps": quiet + false,
        },
    }


def _plain(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _page(made: dict[str, Any]) -> str:
    sections = [
        Section(
            "Reward",
            "R2: 1 is exact, 0 is as good as the mean reward. Beside it the R2 of repeating the last reward.",
            [_table({kind: made[kind]["reward"] for kind in KINDS})],
        ),
        Section(
            "End of episode",
            "An end is predicted where its probability is above one half.",
            [_table({kind: made[kind]["end"] for kind in KINDS})],
        ),
        Section("How this was made", "", [facts({name: str(made[name]) for name in MADE_FROM})]),
    ]
    lead = f"Reward and end of episode on {made['episodes']} episodes, on recorded frames and on dreamed ones."
    return page(f"World '{made['world']}'", lead, [], sections, kicker="vidar eval, suite outcome")


def _table(rows: dict[str, dict[str, Any]]) -> str:
    head = list(next(iter(rows.values())))
    cells = [[kind, *("-" if row[name] is None else str(row[name]) for name in head)] for kind, row in rows.items()]
    return table(["frames", *(name.replace("_", " ") for name in head)], cells)
