"""Reconstruction of a trained autoencoder on held-out frames.

    python scripts/evaluate_tokenizer.py vidar/pretrained/doom/tokenizer runs/data/doom

Every 8th frame of every held-out episode; PSNR in dB per frame of 8-bit pixels, mean over the frames of an episode,
then over episodes, with a 95 % interval over episodes.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from vidar.data.reader import episodes
from vidar.eval.frame_metrics import paired_interval, psnr
from vidar.nn.pretrained import load_component
from vidar.tokenizers.pixels import to_float, to_uint8


@torch.inference_mode()
def main(tokenizer: str, data: str, split: str = "heldout") -> None:
    """Print one line."""
    model = load_component(tokenizer)
    means = []
    for episode in episodes(data, split, extras=()):
        video = torch.from_numpy(np.ascontiguousarray(episode.frames[::8]))[None]
        back = to_uint8(model.decode(model.encode(to_float(video))[0])[0])
        means.append(float(psnr(back, video, 255).mean()))
    mean, low, high = paired_interval(np.array(means), np.zeros(len(means)))
    print(f"{tokenizer}: {mean:.2f} dB [{low:.2f}, {high:.2f}] over {len(means)} episodes of {data} ({split})")


if __name__ == "__main__":
    main(*sys.argv[1:])
