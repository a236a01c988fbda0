"""Score the videos of `vbench_sample` with the official package, one dimension after another, in its own environment.

OUT/scores/MODE/{dimension}/       what the package writes, with the log of its output
OUT/scores/{name}_eval_results.json   `{dimension: [score, [{"video_path", "video_results"}, ...]]}`, as it writes it
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from vidar.config import Config, unknown_key
from vidar.data.atomic import lock_folder, make_folder, replacing
from vidar.data.video import read_video
from vidar.eval import vbench_call
from vidar.eval.clip_folder import ClipFolder
from vidar.eval.vbench_native import NATIVE, is_static, native_scores
from vidar.eval.vbench_prompts import FLICKERING, VIDEOS
from vidar.eval.vbench_sample import KIND, PLACE, PROMPTS
from vidar.eval.vbench_setup import home, info_file, interpreter, last_lines
from vidar.eval.vbench_total import I2V, QUALITY, SEMANTIC
from vidar.types import UsageError, VidarError

Static = Literal["official", "blockmatch", "none"]
SCORES = "scores"
ANY_PROMPT = (*QUALITY, "human_action", "temporal_style", "overall_consistency")  # need no further labels
DINO = ("dino_model/facebookresearch_dino_main/hubconf.py", "dino_model/dino_vitbase16_pretrain.pth")
GRIT = ("grit_model/grit_b_densecap_objectdet.pth",)
VICLIP = ("ViCLIP/ViClip-InternVid-10M-FLT.pth", "ViCLIP/bpe_simple_vocab_16e6.txt.gz")
RAFT = ("raft_model/models/raft-things.pth",)
WEIGHTS: Mapping[str, Sequence[str]] = {  # below the folder of weights, by dimension
    "subject_consistency": DINO,
    "background_consistency": ("clip_model/ViT-B-32.pt",),
    "motion_smoothness": ("amt_model/amt-s.pth",),
    "dynamic_degree": RAFT,
    "aesthetic_quality": ("clip_model/ViT-L-14.pt", "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth"),
    "imaging_quality": ("pyiqa_model/musiq_spaq_ckpt-358bb6af.pth",),
    **dict.fromkeys(("object_class", "multiple_objects", "color", "spatial_relationship"), GRIT),
    "human_action": ("umt_model/l16_ptk710_ftk710_ftk400_f16_res224.pth",),
    "scene": ("caption_model/tag2text_swin_14m.pth",),
    "appearance_style": ("clip_model/ViT-B-32.pt",),
    "temporal_style": VICLIP,
    "overall_consistency": VICLIP,
    "i2v_subject": DINO,
}
Say = Callable[[str], None]


class ScoreRequest(Config):
    """out: the folder of `sample`. home: that of `setup`. dimensions: empty: all that the videos are for.

    static: the filter before temporal_flickering in mode standard: official (RAFT), blockmatch (ours) or none, the
    first five. weights: folder of the networks (VBENCH_CACHE_DIR). long: score own prompts as VBench-Long does.
    images, resolution: of i2v, the pictures and the name of their aspect ratio. partial: score although videos are
    missing. name: of the file of results; None: the mode.
    """

    out: str
    home: str | None = None
    info: str | None = None
    dimensions: tuple[str, ...] = ()
    static: Static = "official"
    weights: str | None = None
    long: bool = False
    images: str | None = None
    resolution: str = "1-1"
    partial: bool = False
    name: str | None = None
    device: str = "cpu"


def score(request: ScoreRequest, say: Say = lambda line: None) -> dict[str, Any]:
    """Score all dimensions that have no result for these videos yet; returns `scores`, `failed` and the results' file.

    A dimension that fails gets one line, and the others go on. Raises UsageError or VidarError if none can be scored.
    """
    run = _Run(request)
    with lock_folder(run.place.parent, "vidar eval vbench score"):
        results, failed = dict[str, Any](), dict[str, str]()
        for dimension in run.dimensions:
            try:
                results[dimension] = run.result(dimension, say)
            except VidarError as error:
                failed[dimension] = str(error)
                say(f"{dimension}: {error}")
        file = run.place.parent / f"{request.name or run.mode}_eval_results.json"
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")
    return {
        "results": str(file),
        "scores": {name: found[0] for name, found in results.items()},
        "failed": failed,
        **({"static_filter": request.static} if FLICKERING in results and run.mode == "standard" else {}),
    }


def score_native(out: Path, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Our own closed-form dimensions (`vbench_native`) of all videos, by no network and no other environment.

    Each is the mean over the videos that are for it. Written to OUT/scores/native_eval_results.json in the official
    form; the labels say what is ours. Raises UsageError if videos are missing.
    """
    clips = ClipFolder(out, KIND, must_exist=True)
    _present(clips, False)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in NATIVE}
    for number, clip in enumerate(clips.clips):
        frames, fps = read_video(out / str(clip["file"]))
        for name, value in native_scores(frames, fps).items():
            if not clip["dimensions"] or name.split("/")[0] in clip["dimensions"] or name.startswith("motion/"):
                found[name].append({"video_path": str(clip["file"]), "video_results": value})
        if progress is not None:
            progress(number + 1, len(clips.clips))
    results = {name: [_mean([one["video_results"] for one in each]), each] for name, each in found.items() if each}
    file = make_folder(out / SCORES) / "native_eval_results.json"
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    return {"results": str(file), "scores": {name: one[0] for name, one in results.items()}}


class _Run:
    """One call: the folder, its mode, and the dimensions to score."""

    def __init__(self, request: ScoreRequest) -> None:
        self.request, self.out = request, Path(request.out).absolute()
        self.clips = ClipFolder(self.out, KIND, must_exist=True)
        kind = str(self.clips.header.get("mode"))
        if request.long and kind != "custom":
            raise UsageError(f"--long is for own prompts; these videos are of mode {kind}")
        self.mode = "long_custom" if request.long else kind
        self.dimensions = self._dimensions()
        self.missing = _present(self.clips, request.partial)
        self.home = home(None if request.home is None else Path(request.home))
        self.python = interpreter(self.home)
        if request.info is None and kind == "i2v":
            raise UsageError("give the info file of VBench-I2V with --info; it is not in the package")
        if kind == "i2v" and not Path(request.images or "").is_dir():
            raise UsageError("give the folder of the pictures with --images")
        self.info = Path(request.info) if request.info else info_file(self.home)
        self.place = self.out / SCORES / self.mode
        given = request.weights or os.environ.get("VBENCH_CACHE_DIR") or Path.home() / ".cache" / "vbench"
        self.weights = Path(given).absolute()

    def result(self, dimension: str, say: Say) -> Any:
        """The result of a dimension, computed if it is not there. Raises VidarError if the package fails."""
        place, stamp = self.place / dimension, self._stamp(dimension)
        file, mark = place / f"{dimension}_eval_results.json", place / "videos.sha256"
        if not (mark.is_file() and file.is_file() and mark.read_text().strip() == stamp):
            make_folder(place)
            mark.unlink(missing_ok=True)
            say(f"{dimension}: running, output in {place / 'log.txt'}")
            self._call(dimension, place, {"videos": str(self._videos(dimension, place))})
            mark.write_text(stamp + "\n")
        try:
            found = json.loads(file.read_text())[dimension]
        except (OSError, ValueError, KeyError):
            found = None
        if not isinstance(found, list) or not found or not isinstance(found[0], int | float) or found[0] != found[0]:
            mark.unlink(missing_ok=True)
            raise VidarError(f"{file}: holds no score; the log {place / 'log.txt'} says why")
        return cast(list[Any], found)

    def _dimensions(self) -> list[str]:
        named = [*dict.fromkeys(str(name) for clip in self.clips.clips for name in clip["dimensions"])]
        known = [*QUALITY, *SEMANTIC, *(I2V if self.mode == "i2v" else ())]
        possible = ANY_PROMPT if self.mode in ("custom", "long_custom") else [one for one in known if one in named]
        for name in self.request.dimensions:
            if name not in possible:
                raise UsageError(unknown_key(name, possible, f"mode {self.mode!r} with these videos"))
        return [name for name in possible if not self.request.dimensions or name in self.request.dimensions]

    def _stamp(self, dimension: str) -> str:
        videos = sorted((str(clip["file"]), str(clip.get("sha256"))) for clip in self._of(dimension))
        return hashlib.sha256(json.dumps([videos, self.request.static, self.request.resolution]).encode()).hexdigest()

    def _of(self, dimension: str) -> list[dict[str, Any]]:
        return [clip for clip in self.clips.clips if not clip["dimensions"] or dimension in clip["dimensions"]]

    def _videos(self, dimension: str, place: Path) -> Path:
        """The folder that the package reads; of VBench-Long one of links, because it writes its clips there."""
        if self.mode.startswith("long"):
            files = [self.out / str(clip["file"]) for clip in self._of(dimension)]
            return _linked({file.name: file for file in files if file.is_file()}, place / PLACE)
        if dimension != FLICKERING or self.mode != "standard" or self.request.static == "none":
            return self.out / PLACE
        if self.request.static == "official":
            self._call(dimension, place, {"videos": str(self.out / PLACE), "keep_static": True})
            return place / "filtered_videos"
        return _linked(self._static(), place / "filtered_blockmatch")

    def _static(self) -> dict[str, Path]:
        """The first five static videos of each prompt, by the names that they get. Raises VidarError if none is."""
        kept: dict[str, Path] = {}
        counts: dict[str, int] = {}
        for clip in sorted(self._of(FLICKERING), key=lambda one: str(one["file"])):
            prompt, file = str(clip["prompt"]), self.out / str(clip["file"])
            number = counts.get(prompt, 0)
            if number < VIDEOS and file.is_file() and is_static(read_video(file)[0]):
                counts[prompt] = number + 1
                kept[f"{prompt}-{number}.mp4"] = file
        if not kept:
            raise VidarError("no video is static, so none can be judged; --static none takes the first five")
        return kept

    def _call(self, dimension: str, place: Path, more: Mapping[str, Any]) -> None:
        """Run the package. Raises VidarError with the end of its log, and the weights that it lacks."""
        prompts = json.loads((self.out / PROMPTS).read_text()) if self.mode == "custom" else None
        asked = {"mode": self.mode, "device": self.request.device, "dimension": dimension, "name": dimension}
        asked |= {"info": str(self.info.absolute()), "out": str(place), "prompts": prompts, "samples": VIDEOS}
        request = place / "request.json"
        request.write_text(json.dumps({**asked, "resolution": self.request.resolution, **more}))
        if self.mode == "i2v":
            crop = make_folder(place / "vbench2_beta_i2v" / "data" / "crop") / self.request.resolution
            crop.unlink(missing_ok=True)
            crop.symlink_to(Path(str(self.request.images)).absolute())
        make_folder(self.weights)
        with (place / "log.txt").open("a") as log:
            done = subprocess.run(
                [str(self.python), "-I", str(Path(str(vbench_call.__file__)).absolute()), str(request)],
                stdout=log, stderr=subprocess.STDOUT, cwd=place, check=False,
                env={**os.environ, "VBENCH_CACHE_DIR": str(self.weights)},
            )  # fmt: skip
        if done.returncode:
            tail = last_lines((place / "log.txt").read_text(errors="replace"), 1)
            needed = (*WEIGHTS.get(dimension, ()), *(RAFT if "keep_static" in more else ()))
            lacking = [name for name in needed if not (self.weights / name).exists()]
            where = f"; {', '.join(lacking)} must be in {self.weights} (VBENCH_CACHE_DIR)" if lacking else ""
            raise VidarError(f"the package failed with code {done.returncode}: {tail}{where}; log {place / 'log.txt'}")


def _present(clips: ClipFolder, partial: bool) -> list[str]:
    """The names of missing videos. Raises UsageError if there are any and `partial` is not set."""
    missing = [str(clip["file"]) for clip in clips.clips if not (clips.folder / str(clip["file"])).is_file()]
    if missing and not partial:
        raise UsageError(
            f"{clips.folder}: {len(missing)} of {len(clips.clips)} videos are missing, the first is {missing[0]}; run "
            "`vidar eval vbench sample` again, or score the rest with --partial"
        )
    return missing


def _linked(files: Mapping[str, Path], folder: Path) -> Path:
    """A folder of links to files by name, without others that were there."""
    make_folder(folder)
    for old in folder.iterdir():
        if old.is_symlink():
            old.unlink()
    for name, file in files.items():
        (folder / name).symlink_to(file)
    return folder


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
