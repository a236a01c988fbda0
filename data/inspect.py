"""A summary of a data set: sizes, hours, sources, and how often each action occurs."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np

from vidar.actions import Action
from vidar.data.index import load_index
from vidar.data.reader import read_actions, read_side, samples

BINS = 10  # bins of a continuous action


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A summary as plain JSON; `actions` maps column -> value (or range) -> share of the frames after the first.

    Reads side files and actions but no video. Raises VidarError for unreadable data.
    """
    index = load_index(path)
    splits: dict[str, dict[str, int]] = {}
    sources: Counter[str] = Counter()
    columns: list[list[np.ndarray]] = [[] for _ in index.spec.actions]
    for split in index.splits():
        lengths: list[int] = []
        for sample in samples(path, index, split):
            side = read_side(sample)
            lengths.append(side["n_frames"])
            sources[side["source"]] += 1
            actions = read_actions(sample, side, index.spec.width)[1:]
            for column, values in zip(columns, actions.T):
                column.append(values)
        splits[split] = {
            "episodes": len(lengths), "frames": sum(lengths), "shortest": min(lengths), "longest": max(lengths),
        }  # fmt: skip
    frames = sum(split["frames"] for split in splits.values())
    return {
        "path": str(path),
        "episodes": sum(split["episodes"] for split in splits.values()),
        "frames": frames,
        "hours": frames / index.fps / 3600,
        "fps": index.fps,
        "height": index.height,
        "width": index.width,
        "splits": splits,
        "sources": dict(sources.most_common()),
        "actions": {a.name: histogram(a, np.concatenate(column)) for a, column in zip(index.spec.actions, columns)},
    }


def histogram(action: Action, values: np.ndarray) -> dict[str, float]:
    """Share of each value of a column; for a continuous column, of each tenth of its range."""
    if action.kind == "continuous":
        counts, edges = np.histogram(values, bins=BINS, range=(action.lowest, action.highest))
        names = [f"{low:g}..{high:g}" for low, high in zip(edges, edges[1:])]
    else:
        counts = np.bincount(values.astype(np.int64), minlength=int(action.highest) + 1)
        names = [str(value) for value in range(len(counts))]
    return {name: float(count / max(len(values), 1)) for name, count in zip(names, counts)}
