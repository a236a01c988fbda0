"""Do generated pictures of the world of shapes show the requested colours? For models of classes or captions.

    python scripts/evaluate_pictures.py runs/var_shapes/model runs/data/shapes
    python scripts/evaluate_pictures.py runs/infinitystar_shapes/model runs/data/shapes --pictures 64

For each held-out episode one picture is generated from its class or caption, each with its own seed. The state of
this world is known, so no network has to judge: a requested colour (of shape 1 for a class, of every shape for a
caption) is present if enough pixels of the first frame are close to it. For comparison: the same share for the real
first frames (a shape may be hidden), for real frames encoded and decoded by the tokenizer, and for each picture with
the request of its neighbour (chance). Also printed: colours that were not requested; sharpness, and for clips motion,
relative to the real frames; seconds per picture.
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
from vidar.model.model import VideoModel
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.types import VidarError

NEAR, ENOUGH = 60.0, 6  # maximum distance of grey levels to a colour, minimum number of its pixels
SHADES = np.array(list(COLOURS.values()), dtype=np.float64)
AT_ONCE = 16


def colours(frames: np.ndarray) -> np.ndarray:
    """uint8 [B, H, W, 3] -> bool [B, colours]: ENOUGH pixels are within NEAR of the colour and nearer to no other."""
    apart = np.linalg.norm(frames[..., None, :].astype(np.float64) - SHADES, axis=-1)  # [B, H, W, colours]
    nearest = apart.argmin(-1)[..., None] == np.arange(len(SHADES))
    return (nearest & (apart < NEAR)).sum((1, 2)) >= ENOUGH


def asked(told: int | str) -> np.ndarray:
    """Class or caption -> bool [colours]: the colours of the shapes that it names."""
    words = SHAPE_CLASSES[told] if isinstance(told, int) else told
    return np.array([name in words.replace(",", "").split() for name in COLOURS])


def share(shown: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each picture, the share of the requested colours that it shows, [B]."""
    return (shown & wanted).sum(1) / wanted.sum(1)


def made(model: VideoModel, told: Sequence[int | str], seed: int) -> tuple[np.ndarray, float]:
    """One picture per class or caption, uint8 [B, T, H, W, 3], and the seconds that each took."""
    parts, seconds = list[np.ndarray](), 0.0
    for start in range(0, len(told), AT_ONCE):
        some = told[start : start + AT_ONCE]
        key = "label" if isinstance(some[0], int) else "prompt"
        found = model.generate(**{key: some}, seed=[seed * 1_000_000 + start + row for row in range(len(some))])
        parts.append(found.frames)
        seconds += sum(found.seconds)
    return np.concatenate(parts), seconds


@torch.inference_mode()
def back(model: VideoModel, truth: np.ndarray) -> np.ndarray:
    """First frames, uint8 [B, H, W, 3], of clips [B, T, H, W, 3] after encoding and decoding."""
    video = to_float(torch.from_numpy(truth))
    return to_uint8(model.tokenizer.decode(model.tokenizer.encode(video)[0])[0])[:, 0].numpy()


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--split", default="heldout")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--record", metavar="RECIPE", help="write the figures beside this recipe")
    given = parser.parse_args()
    check_record(given.record)
    found = judge(given.model, given.data, given.split, given.pictures)
    if given.record:
        record(given.record, command_line(sys.argv[0], sys.argv[1:]), found, given.model)


NAMES = {  # names of the stored figures
    "colours asked for": ("of requested colours, present in the picture", "main"),
    "asked of its neighbour": ("by chance", "baseline"),
    "the same, coded and back": ("in real pictures after its tokenizer", "detail"),
    "of the real first frame": ("in real pictures", "detail"),
}


def judge(name: str, data: str, split: str, count: int) -> Found:
    """Generate the pictures, print and return the results. Raises VidarError if `name` is not such a model."""
    model = vidar.load(name)
    if not model.config.clips:
        raise VidarError(f"{name}: is a world; evaluate it with `vidar eval` or scripts/compare_worlds.py")
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
        print(f"{'other colours':26}{(shown & ~wanted)[:, 1:].sum(1).mean():.2f} per picture")
    sharp = float(sharpness(video).mean() / sharpness(truth).mean())
    found = [*sorted(found, key=lambda figure: figure.role != "main"), percent("of real sharpness", sharp)]
    print(f"{'sharpness / real':26}{sharp:.2f}")
    if length > 1:
        moved = [np.abs(np.diff(x.astype(np.float64), axis=1)).mean() for x in (video, truth)]
        print(f"{'motion / real':26}{moved[0] / moved[1]:.2f}")
    print(f"{'seconds per picture':26}{sum(run[1] for run in runs) / len(video):.3f}")
    return f"{len(video)} pictures, held-out {'classes' if by_class else 'captions'}", found


if __name__ == "__main__":
    try:
        main()
    except VidarError as error:
        sys.exit(f"evaluate_pictures: {error}")
