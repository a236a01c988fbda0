"""How well a tokenizer gives back what it encodes: PSNR, SSIM, LPIPS, codewords, and distances of its videos.

The figures of an episode are the means over its frames, those of the data the mean over episodes with a 95 % interval.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidar.configs.figures import Figure
from vidar.data.atomic import make_folder, replacing
from vidar.data.outputs import check_apart
from vidar.eval.clip_features import Sampling
from vidar.eval.codewords import perplexity
from vidar.eval.extractors import Extractor, check_clip
from vidar.eval.frame_metrics import paired_interval, psnr, ssim, t_quantile
from vidar.eval.frozen_encoder import load_tokenizer, tokenizer_folder
from vidar.eval.local_weights import digest
from vidar.eval.lpips import Lpips
from vidar.eval.output import MARK, begin, folder, write
from vidar.eval.provenance import hardware, shown, versions
from vidar.eval.reconstruction_report import reconstruction_page
from vidar.eval.record import Found, check_record, interval, record
from vidar.eval.transformer_features import VJepa
from vidar.eval.video_distance import Bar, distances, extractor, label_of
from vidar.eval.video_set import Video, VideoSet, find_videos, without_short
from vidar.nn.pretrained import WEIGHTS
from vidar.tokenizers.pixels import to_float, to_uint8
from vidar.types import UsageError

SCHEMA = 1  # of report.json
EVERY = 8  # the frames of an image tokenizer that are judged: neighbours differ too little to count as more evidence
CHUNK = 32  # frames that are encoded and decoded at once
PARTS = "episodes"  # of the report's folder: what an interrupted run finds again
CLIP = Sampling(16)  # that distances of videos look at


@dataclass(frozen=True)
class Reconstruction:
    """What is judged: a tokenizer or the tokenizer of a model, on the videos of a folder or of a split of shards.

    features: names of extractors for the distance of the reconstructed videos to the originals (`extractor`). lpips:
    files of weights. recipe: whose results the figures are stored with.
    """

    tokenizer: str
    data: str
    out: str
    split: str | None = None
    features: tuple[str, ...] = ()
    lpips: tuple[str, ...] = ()
    device: str = "cpu"
    recipe: str | None = None

    @property
    def words(self) -> list[str]:
        """The command line that repeats it, without --out."""
        words = ["vidar", "eval", "reconstruction", shown(self.tokenizer), shown(self.data)]
        words += ["--split", self.split] if self.split else []
        words += [word for name in self.features for word in ("--features", name)]
        words += ["--lpips", ",".join(map(shown, self.lpips))] if self.lpips else []
        return words


@dataclass(frozen=True)
class Judges:
    """What looks at an episode. every: see `EVERY`."""

    tokenizer: Any
    every: int
    extractors: Sequence[Extractor]
    lpips: Lpips | None
    device: str

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 [T, H, W, 3] -> arrays by name: psnr, ssim, lpips [T'], labels by scale, features of both sides."""
        found: dict[str, np.ndarray] = {}
        if self.extractors:
            back = reconstruct(self.tokenizer, frames, self.device)
            real = frames[: len(back)]
            clips = [slice(s, s + CLIP.span) for s in range(0, len(back) - CLIP.span + 1, CLIP.span)]
            for k, one in enumerate(self.extractors):
                for side, video in (("real", real), ("back", back)):
                    rows = [one(video[clip][None]) for clip in clips]
                    found[f"{side}{k}"] = np.concatenate([np.empty((0, one.dim), np.float32), *rows])
            back, real = back[:: self.every], real[:: self.every]
        else:
            back = reconstruct(self.tokenizer, frames[:: self.every], self.device)
            real = frames[:: self.every][: len(back)]
        found["psnr"], found["ssim"] = (metric(back[None], real[None], 255)[0].numpy() for metric in (psnr, ssim))
        if self.lpips is not None:
            found["lpips"] = self.lpips(back, real)
        if hasattr(self.tokenizer, "labels"):
            labels = self.tokenizer.labels(to_float(_tensor(real)[None]).to(self.device))
            found |= {f"labels{k}": part.flatten(0, 3).cpu().numpy() for k, part in enumerate(labels)}
        return found


def reconstruct(tokenizer: Any, frames: np.ndarray, device: str = "cpu") -> np.ndarray:
    """uint8 [T, H, W, 3] -> encoded and decoded, as a stream; frames that do not fill a latent frame are left out."""
    stride = tokenizer.config.strides[0]
    whole = (len(frames) - 1) // stride * stride + 1
    encoder, decoder, back = None, None, list[np.ndarray]()
    bounds = [0, *range(1 + CHUNK, whole, CHUNK), whole]
    for first, last in zip(bounds, bounds[1:]):
        codes, encoder = tokenizer.encode(to_float(_tensor(frames[first:last])[None]).to(device), encoder)
        video, decoder = tokenizer.decode(codes, decoder)
        back.append(to_uint8(video)[0].cpu().numpy())
    return np.concatenate(back)


def run(asked: Reconstruction, bar: Bar) -> dict[str, Any]:
    """Judge all videos; writes report.html and report.json and returns the content of the latter.

    Figures of each video stay in the folder, so that an interrupted run goes on. Raises UsageError or VidarError in one
    line, before anything is encoded.
    """
    began, place = time.perf_counter(), folder(asked.out)
    check_record(asked.recipe)
    check_apart(asked.out, asked.data)
    tokenizer = load_tokenizer(asked.tokenizer).to(asked.device)
    stride, side = tokenizer.config.strides
    lpips = Lpips(asked.lpips, asked.device) if asked.lpips else None
    extractors = [extractor(name, asked.device) for name in asked.features]
    judges = Judges(tokenizer, EVERY if stride == 1 else 1, extractors, lpips, asked.device)
    with bar("counting videos") as tick:
        videos = without_short(find_videos(asked.data, asked.split, tick), CLIP.span if extractors else 1 + stride)
    if any(pixels % side for pixels in videos.size):
        width, height = videos.size[::-1]
        raise UsageError(f"{asked.data}: frames are {width}x{height}, the tokenizer takes multiples of {side} pixels")
    if len(videos.videos) < 2:
        raise UsageError(f"{asked.data}: one video has no interval; give 2 or more")
    for one in extractors:
        check_clip(one, CLIP.frames, videos.size)
    found = _judged(asked, videos, judges, place / PARTS, bar)
    report = {
        "schema": SCHEMA,
        "tokenizer": shown(asked.tokenizer),
        "weights": digest(tokenizer_folder(asked.tokenizer) / WEIGHTS),
        "data": {**videos.facts(), "path": shown(asked.data)},
        "every": judges.every,
        **_summary(videos, found, lpips, judges.every),
        "distances": _distances(extractors, found, videos),
        "command": shlex.join([*asked.words, "--out", shown(asked.out)]),
        "versions": versions(),
        "hardware": hardware(asked.device),
        "seconds": round(time.perf_counter() - began, 1),
    }
    begin(place)
    write(place / "report.html", reconstruction_page(report, _examples(videos, found, judges)))
    write(place / MARK, report)
    if asked.recipe is not None:
        record(asked.recipe, shlex.join(asked.words), of_reconstruction(report), tokenizer_folder(asked.tokenizer))
    return report


def of_reconstruction(report: Mapping[str, Any]) -> Found:
    """The figures of a report for the results of a recipe."""
    units: dict[str, tuple[str, int]] = {"psnr": (" dB", 1), "ssim": ("", 2), "lpips": ("", 3)}
    found = list[Figure]()
    for name, (unit, digits) in units.items():
        if name in report["means"]:
            ends = [report["means"][name][end] for end in ("mean", "low", "high")]
            role = "detail" if found else "main"
            found.append(interval(ends, name=name.upper(), unit=unit.strip(), digits=digits, role=role))
    for k, scale in enumerate(report["scales"]):
        name = f"perplexity of scale {k}, of {scale['words']:,} words"
        found.append(Figure(name=name, value=scale["perplexity"], digits=0))
    split = (report["data"]["split"] or "").replace("heldout", "held-out")
    return " ".join(filter(None, (str(report["data"]["videos"]), split, "episodes"))), found


def _judged(
    asked: Reconstruction, videos: VideoSet, judges: Judges, parts: Path, bar: Bar
) -> list[dict[str, np.ndarray]]:
    """The arrays of every video, computed or read from an earlier run."""
    make_folder(parts)
    names = [one.name for one in judges.extractors] + ([judges.lpips.name] if judges.lpips else [])
    settings = [digest(tokenizer_folder(asked.tokenizer) / WEIGHTS), judges.every, *names]
    found: list[dict[str, np.ndarray]] = []
    with bar("reconstructing") as tick:
        for done, video in enumerate(videos.videos, 1):
            key = hashlib.sha256(json.dumps([*settings, video.content]).encode()).hexdigest()[:32]
            file = parts / f"{key}.npz"
            arrays = _stored(file)
            if arrays is None:
                arrays = judges(_frames(video))
                with replacing(file) as temporary, temporary.open("wb") as out:
                    np.savez(out, allow_pickle=False, **arrays)
            found.append(arrays)
            tick(done, len(videos.videos))
    return found


def _stored(file: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def _frames(video: Video) -> np.ndarray:
    return next(iter(video.reader.clips([np.arange(video.frames)])))


def _summary(
    videos: VideoSet, found: Sequence[Mapping[str, np.ndarray]], lpips: Lpips | None, every: int
) -> dict[str, Any]:
    names = ("psnr", "ssim", *(["lpips"] if lpips else []))
    means: dict[str, Any] = {}
    per_frame: dict[str, list[float] | list[float | None]] = {}
    for name in names:
        ends = paired_interval(np.array([float(one[name].mean()) for one in found]), np.zeros(len(found)))
        means[name] = dict(zip(("mean", "low", "high"), (round(end, 5) for end in ends)))
        most = max(len(one[name]) for one in found)
        columns = [[one[name][k] for one in found if k < len(one[name])] for k in range(most)]
        per_frame[name] = [round(float(np.mean(column)), 4) for column in columns]
        per_frame[f"{name}_half"] = [_half(np.array(column)) for column in columns]
    episodes = [
        {"name": video.name, "frames": len(one["psnr"]), **{name: round(float(one[name].mean()), 5) for name in names}}
        for video, one in zip(videos.videos, found, strict=True)
    ]
    scales: list[dict[str, Any]] = []
    for k in range(sum(name.startswith("labels") for name in found[0])):
        words = torch.from_numpy(np.concatenate([one[f"labels{k}"] for one in found]))
        scales.append({"words": len(words), "perplexity": perplexity(words)})
    return {
        "means": means,
        "lpips_by": None if lpips is None else lpips.name,
        "per_frame": {"step": every, **per_frame},
        "episodes": episodes,
        "scales": scales,
    }


def _half(values: np.ndarray) -> float | None:
    """Half the width of the 95 % interval of a mean; None for one value."""
    if len(values) < 2:
        return None
    return round(t_quantile(len(values) - 1) * float(values.std(ddof=1)) / len(values) ** 0.5, 4)


def _distances(
    extractors: Sequence[Extractor], found: Sequence[Mapping[str, np.ndarray]], videos: VideoSet
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for k, one in enumerate(extractors):
        real, back = (np.concatenate([arrays[f"{side}{k}"] for arrays in found]) for side in ("real", "back"))
        label = label_of(one.name, (len(real), len(back)), CLIP, videos.size)
        owner = np.repeat(np.arange(len(found)), [len(arrays[f"real{k}"]) for arrays in found])
        made = distances(real, back, isinstance(one, VJepa), (owner, owner), paired=True)
        rows.append({"label": label, "extractor": one.name, "dim": one.dim, **made})
    return rows


def _examples(
    videos: VideoSet, found: Sequence[Mapping[str, np.ndarray]], judges: Judges
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(original, reconstruction) of the worst, the median and the best video by PSNR, by what they are."""
    order = np.argsort([float(one["psnr"].mean()) for one in found], kind="stable").tolist()
    places = dict.fromkeys((order[0], order[len(order) // 2], order[-1]))
    shown: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for what, place in zip(("worst", "median", "best"), places):
        frames = _frames(videos.videos[place])[:: judges.every]
        with torch.inference_mode():
            back = reconstruct(judges.tokenizer, frames, judges.device)
        name = f"{what}: {videos.videos[place].name}, {float(found[place]['psnr'].mean()):.1f} dB"
        shown[name] = (frames[: len(back)], back)
    return shown


def _tensor(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames))
