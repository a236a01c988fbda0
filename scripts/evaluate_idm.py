"""Evaluate an inverse-dynamics model on held-out play: balanced accuracy and confusion of each group of keys.

    python scripts/evaluate_idm.py runs/idm_doom/model runs/data/doom [vidar/pretrained/doom/tokenizer] [--record idm]

Judged are the steps in which the recorded pose changed as the keys say; the result over all steps is printed as well.
`reconstructed`: the same frames, encoded and decoded by the tokenizer, which is the best sharpness that a dream can
have. `blurred`: the same frames after a Gaussian blur of one pixel.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from vidar.configs.figures import Figure
from vidar.data.reader import episodes
from vidar.eval.inverse_dynamics import balanced_accuracy, confusion, obeyed
from vidar.eval.record import check_record, command_line, record
from vidar.nn.inverse_dynamics import InverseDynamicsNet, labels
from vidar.nn.pretrained import load_component
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.train.methods.inverse_dynamics import blurred
from vidar.types import VidarError

BARS = {"turning": 0.95, "forward": 0.90, "sideways": 0.90}


@torch.inference_mode()
def judge(model: str, data: str, tokenizer: str, split: str) -> tuple[str, list[Figure]]:
    """Print a block of lines for real, reconstructed and blurred frames; returns the figures of the real ones."""
    net, coder = InverseDynamicsNet.from_pretrained(model), load_component(tokenizer)
    groups = net.config.groups
    sources: dict[str, Callable[[Tensor], Tensor]] = {
        "real": lambda frames: frames,
        "reconstructed": lambda frames: to_uint8(coder.decode(coder.encode(to_float(frames))[0])[0]),
        "blurred": lambda frames: blurred(frames, 1.0),
    }
    found: dict[str, list[np.ndarray]] = {source: [] for source in sources}
    truths, masks = [], []
    for frames, truth, mask in recorded(net, data, split):
        steps = net.config.steps(frames.shape[1])
        truths.append(truth[steps])
        masks.append(mask[steps])
        for source, change in sources.items():
            found[source].append(net.predict(change(frames))[0].numpy())
    truth, mask = np.concatenate(truths), np.concatenate(masks)
    scores = list[Figure]()
    print(f"{model} on {len(truths)} episodes of {data} ({split}): {len(truth)} steps")
    for source, parts in found.items():
        answer = np.concatenate(parts)
        for column, (name, group) in enumerate(groups.items()):
            judged, size = mask[:, column], len(group.labels)
            tables = [confusion(truth[at, column], answer[at, column], size) for at in (judged, judged | True)]
            score, every = (balanced_accuracy(table) for table in tables)
            if source == "real":
                role = "detail" if scores else "main"
                scores.append(Figure(name=f"balanced accuracy, {name}", value=round(score, 4), digits=3, role=role))
            bar = f"bar {BARS[name]:.2f}; " if name in BARS and source == "real" else ""
            print(f"{source:>13} {name:>8} {score:.3f} ({bar}all steps {every:.3f}; judged {judged.mean():.1%})")
            print("\n".join(rows(group.labels, tables)))
    return f"{len(truth):,} steps of {len(truths)} held-out episodes", scores


def recorded(net: InverseDynamicsNet, data: str, split: str) -> Iterator[tuple[Tensor, np.ndarray, np.ndarray]]:
    """For each episode with a full window: frames [1, T, H, W, 3], labels [T, groups], judged [T, groups]."""
    config = net.config
    for episode in episodes(data, split, extras=("pose",)):
        if len(episode.frames) >= config.window:
            truth = labels(torch.from_numpy(episode.actions.copy()), config.spec, config.groups).numpy()
            judged = obeyed(episode.extras["pose"], config.groups, truth)
            yield torch.from_numpy(np.ascontiguousarray(episode.frames))[None], truth, judged


def rows(names: tuple[str, ...], tables: list[np.ndarray]) -> Iterator[str]:
    """One line per true class: how often each class was read, for the judged steps and for all."""
    for true, name in enumerate(names):
        both = " | ".join(" ".join(f"{count:5d}" for count in table[true]) for table in tables)
        yield f"{name:>28} {both}"


def main() -> None:
    """Evaluate, and store the figures beside the recipe if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("tokenizer", nargs="?", default="vidar/pretrained/doom/tokenizer")
    parser.add_argument("split", nargs="?", default="heldout")
    parser.add_argument("--record", metavar="RECIPE")
    given = parser.parse_args()
    check_record(given.record)
    found = judge(given.model, given.data, given.tokenizer, given.split)
    if given.record:
        record(given.record, command_line(sys.argv[0], sys.argv[1:]), found, given.model)


if __name__ == "__main__":
    try:
        main()
    except VidarError as error:
        sys.exit(f"evaluate_idm: {error}")
