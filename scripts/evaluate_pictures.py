"""Do pictures of the world of shapes show what was asked for? Of a model of classes or captions.

    python scripts/evaluate_pictures.py runs/var_shapes/model runs/data/shapes
    python scripts/evaluate_pictures.py runs/infinitystar_shapes/model runs/data/shapes --pictures 64

For each held-out episode a picture is made from its class or caption, another one for each seed. The state of this
world is known, so no network has to judge: a colour that was asked for (of shape 1 for a class, of every shape for a
caption) is there where enough pixels of the first frame lie near it. Printed beside: the same share of the real first
frames (a shape may be hidden), of those coded and decoded by the tokenizer, and of each picture under what was asked of
its neighbour (what chance gives); colours that nobody asked for; sharpness, and of clips the motion, over those of the
real frames; seconds a picture.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch

import vidar
from vidar.configs.figures import Figure
from vidar.data.annotations import SHAPE_CLASSES, ShapeCaptionConfig, ShapeClassConfig
from vidar.data.reader import episodes
from vidar.data.synthetic import COLOURS
from vidar.eval.frame_metrics import paired_interval, sharpness
from vidar.eval.record import Found, check_record, command_line, interval, percent, record
from vidar.model.model import Pictures
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.types import VidarError

NEAR, ENOUGH = 60.0, 6  # grey levels between two colours, pixels of one
SHADES = np.array(list(COLOURS.values()), dtype=np.float64)
AT_ONCE = 16


def colours(frames: np.ndarray) -> np.ndarray:
    """uint8 [B, H, W, 3] -> bool [B, colours]: there are ENOUGH pixels within NEAR of it and of no other nearer."""
    apart = np.linalg.norm(frames[..., None, :].astype(np.float64) - SHADES, axis=-1)  # [B, H, W, colours]
    nearest = apart.argmin(-1)[..., None] == np.arange(len(SHADES))
    return (nearest & (apart < NEAR)).sum((1, 2)) >= ENOUGH


def asked(told: int | str) -> np.ndarray:
    """Class or caption -> bool [colours]: those of the shapes it names."""
    words = SHAPE_CLASSES[told] if isinstance(told, int) else told
    return np.array([name in words.replace(",", "").split() for name in COLOURS])


def share(shown: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of each picture, the share of the colours asked for that it shows, [B]."""
    return (shown & wanted).sum(1) / wanted.sum(1)


def made(model: Pictures, told: Sequence[int | str], seed: int) -> tuple[np.ndarray, float]:
    """One picture each, uint8 [B, T, H, W, 3], and the seconds it took."""
    parts, seconds = list[np.ndarray](), 0.0
    for start in range(0, len(told), AT_ONCE):
        some = told[start : start + AT_ONCE]
        key = "labels" if isinstance(some[0], int) else "prompts"
        found = model.generate(**{key: some}, seeds=[seed * 1_000_000 + start + row for row in range(len(some))])
        parts.append(found.frames)
        seconds += sum(found.seconds)
    return np.concatenate(parts), seconds


@torch.inference_mode()
def back(model: Pictures, truth: np.ndarray) -> np.ndarray:
    """First frames, uint8 [B, H, W, 3], of clips [B, T, H, W, 3] that went through the tokenizer."""
    video = to_float(torch.from_numpy(truth))
    return to_uint8(model.tokenizer.decode(model.tokenizer.encode(video)[0])[0])[:, 0].numpy()


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--split", default="heldout")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--record", metavar="RECIPE", help="write the figures beside this recipe")
    given = parser.parse_args()
    try:
        check_record(given.record)
        found = judge(given.model, given.data, given.split, given.pictures)
        if given.record:
            record(given.record, command_line(sys.argv[0], sys.argv[1:]), found, given.model)
    except VidarError as error:
        parser.exit(1, f"evaluate_pictures: {error}\n")


NAMES = {  # as they are recorded
    "colours asked for": ("of colours asked for, that are there", "main"),
    "asked of its neighbour": ("by chance", "baseline"),
    "the same, coded and back": ("in real pictures through its tokenizer", "detail"),
    "of the real first frame": ("in real pictures", "detail"),
}


def judge(name: str, data: str, split: str, count: int) -> Found:
    """Make the pictures, print what they show and return it. Raises VidarError where `name` is not such a model."""
    model = vidar.load(name)
    if not isinstance(model, Pictures):
        raise VidarError(f"{name}: is a world; scripts/compare_worlds.py and `vidar eval` judge those")
    length, by_class = model.config.frames, bool(model.config.classes)
    say, clip = (ShapeClassConfig() if by_class else ShapeCaptionConfig()).build(), slice(0, length)
    told, real = list[int | str](), list[np.ndarray]()
    for episode in episodes(data, split, extras=()):
        told.append(say(episode, clip))
        real.append(episode.frames[clip])
    seeds = -(-count // len(told))
    runs = [made(model, told, seed) for seed in range(seeds)]
    video, truth = np.concatenate([run[0] for run in runs]), np.stack(real)
    wanted = np.tile(np.stack([asked(one) for one in told]), (seeds, 1))
    shown = colours(video[:, 0])
    figures = {
        "colours asked for": share(shown, wanted),
        "of the real first frame": share(colours(truth[:, 0]), wanted[: len(told)]),
        "the same, coded and back": share(colours(back(model, truth)), wanted[: len(told)]),
        "asked of its neighbour": share(shown, np.roll(wanted, 1, axis=0)),
    }
    found = list[Figure]()
    for what, values in figures.items():
        mean, low, high = ends = paired_interval(values, np.zeros(len(values)))
        found.append(interval(ends, name=NAMES[what][0], role=NAMES[what][1]))
        print(f"{what:26}{mean:.3f} [{low:.3f}, {high:.3f}] over {len(values)} pictures")
    if not by_class:
        print(f"{'colours beside those':26}{(shown & ~wanted)[:, 1:].sum(1).mean():.2f} a picture")
    sharp = float(sharpness(video).mean() / sharpness(truth).mean())
    found = [*sorted(found, key=lambda figure: figure.role != "main"), percent("of real sharpness", sharp)]
    print(f"{'sharpness over real':26}{sharp:.2f}")
    if length > 1:
        moved = [np.abs(np.diff(x.astype(np.float64), axis=1)).mean() for x in (video, truth)]
        print(f"{'motion over real':26}{moved[0] / moved[1]:.2f}")
    print(f"{'seconds a picture':26}{sum(run[1] for run in runs) / len(video):.3f}")
    return f"{len(video)} pictures, held-out {'classes' if by_class else 'captions'}", found


if __name__ == "__main__":
    main()
