"""What metrics beside the ruler say about play with a fault: fidelity, Frechet distances, VBench, `endless`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidar.eval.block_matching import block_flow
from vidar.eval.endless_figures import RealRange, difference, looks, outside, ratio_of_means, survival
from vidar.eval.endless_measure import ends
from vidar.eval.extractors import Extractor
from vidar.eval.frame_metrics import psnr, ssim
from vidar.eval.frechet import Moments, frechet
from vidar.eval.vbench_native import (
    SAMPLED_FPS,
    dynamic_degree,
    motion,
    motion_smoothness,
    subject_consistency,
    temporal_flickering,
)

SSIM_EVERY = 16  # frames
WINDOW = 16  # frames of a clip for the feature extractors and for block matching
FEATURES_EVERY, FLOW_EVERY = 2, 5  # seconds between two of them
WHOLE = {  # of a whole clip
    "vbench/temporal_flickering": temporal_flickering,
    "vbench/motion_smoothness/linear": motion_smoothness,
    "vbench/subject_consistency/pixels": subject_consistency,
}


@dataclass(frozen=True)
class Truth:
    """The real play that a fault is planted in: E starts, T frames, of which `lasted` [E] are play.

    frames uint8 [E, T, H, W, 3]; first uint8 [E, H, W, 3]; pressed bool [E, T]: whether any key is down.
    """

    frames: np.ndarray
    first: np.ndarray
    pressed: np.ndarray
    lasted: np.ndarray
    fps: float

    @property
    def judged(self) -> np.ndarray:
        """Which frames are play, bool [E, T]."""
        return np.arange(self.frames.shape[1]) < self.lasted[:, None]


@dataclass(frozen=True)
class Sight:
    """One player with a fault, or without one, as the metrics see it.

    figures: metric -> a value for each thing that it measures, [n]; features: extractor -> [n, d]; looks: name ->
    [E, T]; motion: change of each frame in grey levels [E, T].
    """

    figures: Mapping[str, np.ndarray]
    features: Mapping[str, np.ndarray]
    looks: Mapping[str, np.ndarray]
    motion: np.ndarray


class Flows:
    """Block matching that remembers what it has matched."""

    def __init__(self) -> None:
        self.known: dict[bytes, np.ndarray] = {}

    def __call__(self, first: np.ndarray, second: np.ndarray, reach: float) -> np.ndarray:
        """As `block_flow`."""
        key = digest(first) + digest(second) + str(reach).encode()
        if key not in self.known:
            self.known[key] = block_flow(first, second, reach)
        return self.known[key]


def digest(frame: np.ndarray) -> bytes:
    """A name of a frame by its content."""
    return hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest()


def sight(frames: np.ndarray, truth: Truth, extractors: Mapping[str, Extractor], flow: Flows) -> Sight:
    """Measure frames uint8 [E, T, H, W, 3] beside the real play."""
    clips = [clip[:lasted] for clip, lasted in zip(frames, truth.lasted) if lasted > WINDOW]
    windows = [window for clip in clips for window in _windows(clip, FEATURES_EVERY * truth.fps)]
    stride = max(1, round(truth.fps / SAMPLED_FPS))
    moving = [window[::stride] for clip in clips for window in _windows(clip, FLOW_EVERY * truth.fps)]
    some, judged = slice(None, None, SSIM_EVERY), truth.judged
    figures = {
        "psnr": psnr(frames, truth.frames, 255.0).numpy()[judged],
        "ssim": ssim(frames[:, some], truth.frames[:, some], 255.0).numpy()[judged[:, some]],
        **{name: np.array([measured(clip) for clip in clips]) for name, measured in WHOLE.items()},
        "vbench/dynamic_degree/blockmatch": np.array([dynamic_degree(part, flow=flow) for part in moving]),
        "vbench/motion/blockmatch": np.array([motion(part, flow) for part in moving]),
    }
    features = {name: extractor(np.stack(windows)) for name, extractor in extractors.items()}
    return Sight(figures, features, looks(frames), difference(frames, truth.first))


def metrics(
    harmed: Sequence[Sight], unharmed: Sequence[Sight], truths: Sequence[Truth], real: RealRange
) -> dict[str, float]:
    """The figures of all players together, by metric. A Frechet distance of too few clips is left out."""
    found = {name: float(np.concatenate([one.figures[name] for one in harmed]).mean()) for name in harmed[0].figures}
    for name in harmed[0].features:
        ours, theirs = (np.concatenate([one.features[name] for one in some]) for some in (harmed, unharmed))
        if len(ours) > ours.shape[1]:
            found[f"frechet/{name}"] = frechet(Moments.of(ours), Moments.of(theirs))
    return {**found, **_endless(harmed, unharmed, truths, real)}


def _endless(
    harmed: Sequence[Sight], unharmed: Sequence[Sight], truths: Sequence[Truth], real: RealRange
) -> dict[str, float]:
    """The figures of the suite `endless`, which judges the later half of each play."""
    found = {}
    for name, band in real.looks.items():
        off = [
            outside(one.looks[name], band)[:, (half := len(truth.judged[0]) // 2) :][truth.judged[:, half:]]
            for one, truth in zip(harmed, truths)
        ]
        found[f"endless/{name}"] = float(np.concatenate(off).mean())
    moved, usual, judged = (
        np.concatenate(parts)
        for parts in zip(*((a.motion, b.motion, t.judged) for a, b, t in zip(harmed, unharmed, truths)))
    )
    ratio = ratio_of_means(moved, usual, judged)
    found["endless/motion"] = abs(float(np.log2(max(ratio, 2.0**-10))))
    lasting = [
        np.minimum(ends(survival(one.looks, one.motion, t.pressed, real, max(1, round(t.fps)))), t.lasted)
        for one, t in zip(harmed, truths)
    ]
    found["endless/survival"] = float(np.concatenate(lasting).mean())
    return found


def _windows(clip: np.ndarray, every: float) -> list[np.ndarray]:
    """Parts of WINDOW frames of a clip [T, H, W, 3] that begin `every` frames apart."""
    count = int((len(clip) - WINDOW) // every) + 1
    return [clip[begin : begin + WINDOW] for begin in (round(n * every) for n in range(count))]
