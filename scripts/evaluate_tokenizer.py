"""Reconstruction quality of a trained autoencoder on held-out frames.

    python scripts/evaluate_tokenizer.py vidar/pretrained/doom/tokenizer runs/data/doom [heldout] [--record RECIPE]

Every 8th frame of every held-out episode is used (every frame for a tokenizer that is causal in time). PSNR in dB and
SSIM per frame of 8-bit pixels, averaged over the frames of an episode and then over episodes, with a 95 % interval
over episodes. For a quantised tokenizer also the perplexity of the codewords of each scale, over all label parts of a
site together, and how many codewords were counted.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from vidar.configs.figures import Figure
from vidar.data.reader import episodes
from vidar.eval.codewords import perplexity
from vidar.eval.frame_metrics import paired_interval, psnr, ssim
from vidar.eval.record import check_record, command_line, interval, record
from vidar.nn.pretrained import load_component
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder
from vidar.types import VidarError


@torch.inference_mode()
def judge(tokenizer: str, data: str, split: str) -> tuple[str, list[Figure]]:
    """Print one line per figure; returns a description of the data and the figures."""
    model = load_component(tokenizer)
    found: dict[str, list[float]] = {"PSNR": [], "SSIM": []}
    labels: list[tuple[torch.Tensor, ...]] = []
    stride = model.config.time_stride
    for episode in episodes(data, split, extras=()):
        frames = episode.frames[:: 8 if stride == 1 else 1]
        video = torch.from_numpy(np.ascontiguousarray(frames[: (len(frames) - 1) // stride * stride + 1]))[None]
        back = to_uint8(model.decode(model.encode(to_float(video))[0])[0])
        found["PSNR"].append(float(psnr(back, video, 255).mean()))
        found["SSIM"].append(float(ssim(back, video, 255).mean()))
        if isinstance(model, PyramidAutoencoder):
            labels.append(model.labels(to_float(video)))
    count, figures = len(found["PSNR"]), list[Figure]()
    for (name, values), unit, digits in zip(found.items(), (" dB", ""), (2, 3), strict=True):
        ends = paired_interval(np.array(values), np.zeros(count))
        mean, low, high = (f"{value:.{digits}f}" for value in ends)
        figures.append(
            interval(ends, name=name, unit=unit.strip(), digits=digits - 1, role="detail" if figures else "main")
        )
        print(f"{tokenizer}: {name} {mean}{unit} [{low}, {high}] over {count} episodes of {data} ({split})")
    for k, parts in enumerate(zip(*labels)):
        words = torch.cat([part.flatten(0, 3) for part in parts])
        figures.append(
            Figure(name=f"perplexity of scale {k}, of {len(words):,} words", value=perplexity(words), digits=0)
        )
        print(f"scale {k}: perplexity {perplexity(words):.0f} of {len(words)} words")
    return f"{count} {split.replace('heldout', 'held-out')} episodes", figures


def main() -> None:
    """Evaluate, and store the figures beside the recipe if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer")
    parser.add_argument("data")
    parser.add_argument("split", nargs="?", default="heldout")
    parser.add_argument("--record", metavar="RECIPE")
    given = parser.parse_args()
    check_record(given.record)
    found = judge(given.tokenizer, given.data, given.split)
    if given.record:
        record(given.record, command_line(sys.argv[0], sys.argv[1:]), found, given.tokenizer)


if __name__ == "__main__":
    try:
        main()
    except VidarError as error:
        sys.exit(f"evaluate_tokenizer: {error}")
