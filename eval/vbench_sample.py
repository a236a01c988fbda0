"""Make the videos of VBench, or take those that another program made, in a folder that can be checked and scored.

OUT/videos/{name}-{i}.mp4   nothing but videos: the official package takes their suffix from the first file it lists
OUT/manifest.json           prompt, index, seed, dimensions and SHA-256 of each; model, fingerprint, fps, frames, command
OUT/prompts.json            file name -> prompt, of own prompts

Choice: colours are coded as BT.601. OpenCV, with which the official package reads the videos of four dimensions,
ignores the tag of BT.709 and shifts colours (green 200 becomes 228); decord, with which it reads the others, does not.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import Field

from vidar.config import Config
from vidar.data.atomic import lock_folder, make_folder, replacing
from vidar.eval import vbench_prompts
from vidar.eval.clip_folder import ClipFolder, Problem, measure, sha256
from vidar.eval.clip_jobs import ClipJob, Makers, Setting, check_prompts, make_all
from vidar.eval.vbench_prompts import LONG_SECONDS, MODES, VIDEOS, Mode, Wanted
from vidar.model.files import versions
from vidar.model.load import load_config, locate
from vidar.model.model import VideoModelConfig
from vidar.synth.jobs import seed_of
from vidar.synth.random_actions import random_actions
from vidar.synth.starts import starts_of
from vidar.types import UsageError, VidarError

KIND, PLACE, PROMPTS = "vbench", "videos", "prompts.json"
MATRIX = "bt601"
Say = Callable[[str], None]
Progress = Callable[[int, int], None]


class SampleRequest(Config):
    """The videos of one model in one mode. Give `model`, or `folder`, whose videos are copied under the right names.

    info: the official prompts; prompts: own ones, one per line (custom). dimensions, first: see
    `vbench_prompts.official`. videos: of each own prompt. images: folder of the pictures (i2v). frames or seconds: the
    length; neither: that of the model's clips. seed: the seed of a video is a hash of it and the name.
    """

    out: str
    mode: Mode = "standard"
    model: str | None = None
    folder: str | None = None
    info: str | None = None
    prompts: str | None = None
    dimensions: tuple[str, ...] = ()
    first: int | None = Field(default=None, ge=1)
    videos: int = Field(default=VIDEOS, ge=1)
    images: str | None = None
    frames: int | None = Field(default=None, ge=2)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    seed: int = 0
    steps: int | None = Field(default=None, ge=1)
    size: tuple[int, int] | None = None
    workers: int = Field(default=1, ge=1)
    device: str = "cpu"

    @property
    def command(self) -> str:
        """The command line that makes the same videos."""
        words = ["vidar", "eval", "vbench", "sample", *([self.model] if self.model else [])]
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name == "model" or value == field.default:
                continue
            option = f"--{name.removesuffix('s') if name == 'dimensions' else name}"
            given = value if name == "dimensions" else ["x".join(map(str, value)) if name == "size" else value]
            words += [word for one in given for word in (option, str(one))]
        return shlex.join(words)


def sample(request: SampleRequest, progress: Progress | None = None, say: Say = lambda line: None) -> dict[str, Any]:
    """Make all videos that are not there yet; returns how many were made, kept and are missing.

    Everything is checked before a model is loaded. Raises UsageError or VidarError in one line; finished videos stay.
    """
    if (request.model is None) == (request.folder is None):
        raise UsageError("give MODEL, or --folder with videos that another program made, and not both")
    if request.mode not in MODES:
        raise UsageError(f"--mode {request.mode}: there is {', '.join(MODES)}")
    source = None if request.folder is None else Path(request.folder)
    wanted = _wanted(request, source)
    plan = _Plan(request) if source is None else None
    if plan is not None:
        plan.check(wanted)
    with lock_folder(request.out, "vidar eval vbench sample"):
        clips = ClipFolder(Path(request.out), KIND)
        make_folder(clips.folder / PLACE)
        _check_case(clips.folder / PLACE, wanted)
        settings: dict[str, Any] = {"mode": request.mode}
        if request.info:
            settings["info_sha256"] = sha256(Path(request.info))
        clips.settle(settings | ({"source": "videos of another program"} if plan is None else plan.settings))
        todo = clips.enter([_entry(request, one) for one in wanted])
        clips.header |= {"command": request.command, **versions()}
        if request.mode == "custom":
            with replacing(clips.folder / PROMPTS) as file:
                file.write_text(json.dumps({one.file: one.prompt for one in wanted}, indent=1) + "\n")
        if plan is None:
            made = _copy(clips, todo, cast(Path, source))
        else:
            made = plan.make(clips, todo, progress)
        clips.save()
    missing = [Path(str(one["file"])).name for one in todo if "sha256" not in one]
    if missing:
        say(f"{len(missing)} of {len(wanted)} videos are missing: {_some(missing)}")
    dimensions = Counter(name for one in wanted for name in one.dimensions)
    return {
        "out": request.out,
        "videos": len(wanted),
        "made": made,
        "kept": len(wanted) - len(todo),
        "missing": missing,
        "videos_by_dimension": dict(dimensions),
    }


def check(out: Path, expected: Mapping[str, Any] | None = None, say: Say = lambda line: None) -> dict[str, Any]:
    """Whether every video of a folder exists, decodes and is what the manifest says; the official package only warns.

    expected: measures such as {"frames": 16, "height": 256} that every video must have. Files in OUT/videos that the
    manifest does not know are problems too. One line per problem goes to `say`.
    Raises UsageError if there is no manifest.
    """
    clips = ClipFolder(out, KIND, must_exist=True)
    problems = [*clips.problems(expected)]
    known = {str(clip["file"]) for clip in clips.clips}
    for file in sorted((out / PLACE).iterdir()) if (out / PLACE).is_dir() else []:
        if f"{PLACE}/{file.name}" not in known:
            problems.append(Problem(f"{PLACE}/{file.name}", "unexpected", "is not in the manifest; move it away"))
    for one in problems:
        say(f"{one.file}: {one.text}")
    wrong = {one.file for one in problems}
    return {
        "videos": len(clips.clips),
        "good": sum(str(clip["file"]) not in wrong for clip in clips.clips),
        "by_kind": dict(Counter(one.kind for one in problems)),
        "problems": [{"file": one.file, "kind": one.kind, "problem": one.text} for one in problems],
    }


class _Plan:
    """How a model makes the videos."""

    def __init__(self, request: SampleRequest) -> None:
        self.request, self.name = request, str(request.model)
        self.folder = locate(self.name)
        self.config: VideoModelConfig = load_config(self.folder)
        self.frames = self._frames()
        self.starts = starts_of(self.folder, True)
        self.texts = "prompt" in self.config.accepts

    @property
    def settings(self) -> dict[str, Any]:
        """What all videos have in common."""
        given = {name: getattr(self.request, name) for name in ("seed", "steps", "device")}
        size = None if self.request.size is None else list(self.request.size)
        return {"frames": self.frames, "fps": self.config.fps, "size": size, "matrix": MATRIX, **given}

    def check(self, wanted: Sequence[Wanted]) -> None:
        """Raises UsageError if the model cannot make these videos."""
        request, config = self.request, self.config
        if request.mode in ("standard", "long") or self.texts or config.clips:
            check_prompts(self.name, config, [*dict.fromkeys(one.prompt for one in wanted)])
        if request.mode == "long" and self.frames < LONG_SECONDS * config.fps:
            raise UsageError(
                f"--mode long: {self.frames} frames are {self.frames / config.fps:.3g} s at {config.fps:g} frames per "
                f"second; VBench-Long is for {LONG_SECONDS:g} s and more, give --seconds {LONG_SECONDS:g}"
            )
        if request.mode != "i2v" and not config.clips and not self.starts.clips:
            raise UsageError(f"{self.name}: ships no start clip, so its videos need pictures to begin with; --mode i2v")
        if request.mode == "i2v":
            _check_images(Path(request.images or ""), wanted)
        if config.clips:
            config.system(self.frames)

    def make(self, clips: ClipFolder, todo: Sequence[dict[str, Any]], progress: Progress | None) -> int:
        """Make the clips of some entries. Raises UsageError if the folder was made with another model."""
        if not todo:
            return 0
        request = self.request
        setting = Setting(str(self.folder), request.device, request.steps, request.size)
        with Makers(setting, clips.folder, min(request.workers, len(todo))) as makers:
            clips.settle(makers.about())
            clips.header["model"] = self.name
            return make_all(clips, todo, self._job, makers, progress)

    def _job(self, entry: dict[str, Any]) -> ClipJob:
        """The job of an entry. Choice: a world without text takes a random walk from one of its start clips; one with
        text begins there, and no key is pressed.
        """
        seed, config = int(entry["seed"]), self.config
        context = None if config.clips else self.starts.clip(seed, named=False)
        if entry.get("image") is not None:
            context = Path(self.request.images or "") / str(entry["image"])
        walk = None if self.texts or config.clips else random_actions(config.spec, seed, self.frames)
        prompt = str(entry["prompt"]) if self.texts else None
        return ClipJob(str(entry["file"]), seed, self.frames, prompt, None if context is None else str(context), walk)

    def _frames(self) -> int:
        request, config = self.request, self.config
        if request.frames is not None and request.seconds is not None:
            raise UsageError("give --frames or --seconds, not both")
        wanted = None if request.seconds is None else max(2, round(request.seconds * config.fps))
        frames = wanted or request.frames or config.frames
        if frames is None:
            raise UsageError(f"{self.name}: makes endless streams; give --frames or --seconds")
        if frames < 2:
            raise UsageError(f"{self.name}: makes images; VBench needs videos of 2 frames or more")
        return frames


def _wanted(request: SampleRequest, source: Path | None) -> list[Wanted]:
    if request.mode != "custom":
        for name in ("prompts",):
            if getattr(request, name) is not None:
                raise UsageError(f"--{name} belongs to --mode custom; mode {request.mode} has official prompts")
        if request.info is None:
            raise UsageError("give the official prompts with --info VBench_full_info.json")
        prompts = vbench_prompts.read_info(Path(request.info))
        return vbench_prompts.official(prompts, request.mode, request.dimensions, request.first)
    for name in ("info", "dimensions", "first", "images"):
        if getattr(request, name):
            raise UsageError(f"--{name.removesuffix('s')} does not belong to --mode custom, which has own prompts")
    if source is not None:
        return _found(source)
    if request.prompts is not None:
        return vbench_prompts.own(vbench_prompts.read_prompts(Path(request.prompts)), request.videos)
    config = load_config(locate(str(request.model)))
    if config.clips or "prompt" in config.accepts:
        raise UsageError(f"{request.model}: give it prompts, one per line, with --prompts FILE")
    return vbench_prompts.own([config.name.replace("_", " ")], request.videos)


def _found(source: Path) -> list[Wanted]:
    """The videos of another program, whose names tell the prompts if there is no prompts.json."""
    names = sorted(file.name for file in source.glob("*.mp4")) if source.is_dir() else []
    if not names:
        raise UsageError(f"{source}: holds no .mp4; give the folder of the videos")
    told: Any = {}
    if (source / PROMPTS).is_file():
        try:
            told = json.loads((source / PROMPTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = None
        if not isinstance(told, dict) or (lacking := [name for name in names if not isinstance(told.get(name), str)]):
            what = "is not readable as JSON" if not isinstance(told, dict) else f"has no prompt of {lacking[0]}"
            raise UsageError(f"{source / PROMPTS}: {what}; write {{file name: prompt}}")
    found: list[Wanted] = []
    for name in names:
        prompt, dash, number = Path(name).stem.rpartition("-")
        numbered = bool(dash) and number.isdecimal()
        text = cast(dict[str, str], told).get(name, prompt if numbered else Path(name).stem)
        found.append(Wanted(name, text, int(number) if numbered else 0))
    return found


def _entry(request: SampleRequest, one: Wanted) -> dict[str, Any]:
    seed = None if request.model is None else seed_of(f"{request.seed}/{one.file}")
    entry = {"file": f"{PLACE}/{one.file}", "prompt": one.prompt, "index": one.index, "seed": seed}
    return entry | {"dimensions": list(one.dimensions), "image": one.image}


def _copy(clips: ClipFolder, todo: Sequence[dict[str, Any]], source: Path) -> int:
    """Copy the videos that are there; a damaged one raises VidarError."""
    made = 0
    try:
        for entry in todo:
            theirs, ours = source / Path(str(entry["file"])).name, clips.folder / str(entry["file"])
            if not theirs.is_file():
                continue
            measured = measure(theirs)
            with replacing(ours) as temporary:
                shutil.copyfile(theirs, temporary)
            clips.note(entry, {"sha256": sha256(ours), "bytes": ours.stat().st_size, **measured})
            made += 1
    finally:
        clips.save()
    return made


def _check_images(folder: Path, wanted: Sequence[Wanted]) -> None:
    missing = [one.image for one in wanted if not (folder / str(one.image)).is_file()]
    if missing:
        names = [*dict.fromkeys(map(str, missing))]
        raise UsageError(
            f"{folder}: {len(names)} pictures are missing: {_some(names)}; give their folder with --images"
        )


def _check_case(place: Path, wanted: Iterable[Wanted]) -> None:
    """Raises UsageError if the file system takes two of the names for one: official prompts differ in case alone."""
    pair = next(vbench_prompts.folded([one.file for one in wanted]), None)
    probe = place / ".Case"
    if pair is None:
        return
    try:
        probe.touch()
        same = (place / ".case").exists()
    except OSError as error:
        raise VidarError(f"{place}: cannot be written ({error.strerror})") from None
    finally:
        probe.unlink(missing_ok=True)
    if same:
        raise UsageError(f"{place}: its file system takes {pair[0]!r} and {pair[1]!r} for one; give another folder")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
