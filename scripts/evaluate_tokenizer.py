"""Reconstruction of a trained autoencoder on held-out frames.

    python scripts/evaluate_tokenizer.py vidar/pretrained/doom/tokenizer runs/data/doom

Every 8th frame of every held-out episode (of a tokenizer that is causal in time every frame); PSNR in dB and SSIM per
frame of 8-bit pixels, mean over the frames of an episode, then over episodes, with a 95 % interval over episodes. Of a
quantised tokenizer also, by scale, the perplexity of the codewords over all label parts of a site together, and how
many there were to count.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from vidar.data.reader import episodes
from vidar.eval.codewords import perplexity
from vidar.eval.frame_metrics import paired_interval, psnr, ssim
from vidar.nn.pretrained import load_component
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.tokenizers.pyramid_autoencoder import PyramidAutoencoder


@torch.inference_mode()
def main(tokenizer: str, data: str, split: str = "heldout") -> None:
    """Print a line for each figure."""
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
    count = len(found["PSNR"])
    for (name, values), unit, digits in zip(found.items(), (" dB", ""), (2, 3), strict=True):
        mean, low, high = (f"{value:.{digits}f}" for value in paired_interval(np.array(values), np.zeros(count)))
        print(f"{tokenizer}: {name} {mean}{unit} [{low}, {high}] over {count} episodes of {data} ({split})")
    for k, parts in enumerate(zip(*labels)):
        words = torch.cat([part.flatten(0, 3) for part in parts])
        print(f"scale {k}: perplexity {perplexity(words):.0f} of {len(words)} words")


if __name__ == "__main__":
    main(*sys.argv[1:])
