"""Export the clips of a world in the layout of a benchmark, and check and score a folder in such a layout."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import Field

from vidar.config import Config, unknown_key
from vidar.data.atomic import lock_folder, replacing
from vidar.data.video import read_video
from vidar.eval.clip_folder import ClipFolder, Problem, measure
from vidar.eval.clip_jobs import ClipJob, Makers, Setting, make_all
from vidar.eval.controllability import (
    Controls,
    camera_precision,
    joined,
    keyboard_precision,
    read_controls,
    rows_of,
)
from vidar.eval.inverse_dynamics import shipped
from vidar.eval.layouts import FRAMES, LAYOUTS, SCRIPTS, Layout, Script, script_of
from vidar.eval.vbench_native import native_scores
from vidar.model.files import versions
from vidar.model.load import load_world_config, locate
from vidar.nn.inverse_dynamics import InverseDynamicsNet
from vidar.synth.jobs import seed_of
from vidar.synth.starts import starts_of
from vidar.types import UsageError, VidarError

Progress = Callable[[int, int], None]
Say = Callable[[str], None]


class ExportRequest(Config):
    """The clips of a world. actions: only these of the layout's (empty: all).

    context: clip or picture that all begin with (None: the world's start clip). frames: of a clip, for layouts that do
    not fix them (None: 65). seed: the seed of a clip is a hash of it and the path.
    """

    model: str
    layout: str
    out: str
    actions: tuple[str, ...] = ()
    context: str | None = None
    frames: int | None = Field(default=None, ge=2)
    seed: int = 0
    steps: int | None = Field(default=None, ge=1)
    workers: int = Field(default=1, ge=1)
    device: str = "cpu"


def export(request: ExportRequest, progress: Progress | None = None) -> dict[str, Any]:
    """Make the clips of all actions that the world can play; returns their number and the names of the others.

    Clips that are there already are kept. Raises UsageError if the world can play none of them, or the folder holds
    something else.
    """
    layout, folder = layout_of(request.layout), locate(request.model)
    config = load_world_config(folder)
    frames = request.frames or layout.frames or FRAMES
    if layout.frames not in (None, frames):
        raise UsageError(f"--frames {frames}: clips of layout {request.layout} have {layout.frames}; leave it out")
    context = request.context or starts_of(folder, False).clip(0, named=True)
    if context is None:
        raise UsageError(f"{request.model}: ships no start clip; give one with --context clip.mp4 or picture.png")
    spec, named = config.spec, [one.name for one in SCRIPTS]
    if unknown := [name for name in request.actions if name not in named]:
        raise UsageError(unknown_key(unknown[0], named, "--action"))
    asked = [one for one in SCRIPTS if not request.actions or one.name in request.actions]
    tables = {one.name: rows for one in asked if (rows := rows_of(one.controls(frames), spec)) is not None}
    left_out = [one.name for one in asked if one.name not in tables]
    if {*tables} <= {"none"} and left_out:
        raise UsageError(f"{request.model}: its actions {', '.join(spec.names)} are none of layout {request.layout}")
    wanted, names = list[dict[str, Any]](), dict[str, Script]()
    for index, script in enumerate(SCRIPTS):
        if script.name in tables:
            file = layout.file(index, script)
            names[file] = script
            about = {"action": script.name, "keys": list(script.keys), "camera": list(script.camera)}
            wanted.append({"file": file, "seed": seed_of(f"{request.seed}/{file}"), **about})
    with lock_folder(request.out, "vidar eval export"):
        clips = ClipFolder(Path(request.out), request.layout)
        given = {name: getattr(request, name) for name in ("seed", "steps", "device")}
        clips.settle({**given, "context": str(context), "frames": frames, "fps": config.fps, "world": config.name})
        todo = clips.enter(wanted)
        clips.header |= {"left_out": left_out, **versions(), "threads": 1}
        if todo:
            setting = Setting(str(folder), request.device, request.steps)

            def job(entry: dict[str, Any]) -> ClipJob:
                file = str(entry["file"])
                rows = tables[names[file].name]
                return ClipJob(file, int(entry["seed"]), frames, context=str(context), actions=rows)

            with Makers(setting, clips.folder, min(request.workers, len(todo))) as makers:
                clips.settle(makers.about())
                make_all(clips, todo, job, makers, progress)
        clips.save()
        for file, script in names.items():
            if layout.write is not None:
                with replacing((clips.folder / file).parent / layout.side) as temporary:
                    temporary.write_text(json.dumps(layout.write(script, frames), indent=1) + "\n")
    return {
        "out": request.out,
        "layout": request.layout,
        "clips": len(wanted),
        "made": len(todo),
        "frames": frames,
        "left_out": left_out,
    }


def import_layout(
    folder: Path,
    name: str,
    idm: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Check a folder in a layout, whoever made it, and compute what follows from the clips alone.

    idm: the inverse-dynamics model that reads the actions (None: the one that ships for the exported world, if there is
    one). The result has `problems` (missing, undecodable, unnamed, other frames, size or side file), `scores` of
    `vbench_native` (means over the good clips), and `keyboard` and `camera` of `controllability` over the frames that
    the reader can judge, or `unread`, why not. Clips with a problem are not scored.
    Raises UsageError for an unknown layout, or a folder without a clip of it.
    """
    layout = layout_of(name)
    files = sorted(str(file.relative_to(folder)) for file in folder.glob(layout.pattern))
    if not files:
        raise UsageError(f"{folder}: holds no clip {layout.video} of layout {name}")
    known = ClipFolder(folder, name) if (folder / "manifest.json").is_file() else None
    reader, unread = _reader(known, idm)
    problems, good = [*_absent(files, known)], list[tuple[str, Controls]]()
    for file in files:
        try:
            good.append((file, _commanded(folder, file, layout)))
        except VidarError as error:
            problems.append(Problem(file, "wrong", str(error).removeprefix(f"{folder / file}: ")))
    problems += [one for one in (known.problems() if known else ()) if one.kind not in ("missing", "undecodable")]
    wrong = {one.file for one in problems}
    scored = _Scores(reader)
    good = [one for one in good if one[0] not in wrong]
    for number, (file, commanded) in enumerate(good):
        scored.add(file, *read_video(folder / file), commanded)
        if progress is not None:
            progress(number + 1, len(good))
    for one in problems:
        say(f"{one.file}: {one.text}")
    return {
        "layout": name,
        "clips": len(files),
        "good": len(good),
        "by_kind": dict(Counter(one.kind for one in problems)),
        "problems": [{"file": one.file, "kind": one.kind, "problem": one.text} for one in problems],
        "left_out": known.header.get("left_out", []) if known else [],
        **scored.result(),
        **({"unread": unread} if unread else {}),
    }


class _Scores:
    """Collects the scores of clips. reader: None: the actions are not read."""

    def __init__(self, reader: InverseDynamicsNet | None) -> None:
        self.reader = reader
        self.native: dict[str, list[float]] = {}
        self.pairs: list[tuple[Controls, Controls]] = []
        self.tasks: tuple[str, ...] = ()
        self.camera, self.unread = False, list[str]()

    def add(self, file: str, frames: np.ndarray, fps: float, commanded: Controls) -> None:
        """Score a clip."""
        for name, value in native_scores(frames, fps).items():
            self.native.setdefault(name, []).append(value)
        if self.reader is None:
            return
        try:
            reading = read_controls(self.reader, frames)
        except UsageError as error:
            self.unread.append(f"{file}: {error}")
            return
        self.tasks, self.camera = reading.tasks, reading.camera
        self.pairs.append((commanded[reading.rows], reading.controls))

    def result(self) -> dict[str, Any]:
        """Means over clips, and precisions over frames."""
        made: dict[str, Any] = {"scores": {name: sum(each) / len(each) for name, each in self.native.items()}}
        if self.unread:
            made["unread_clips"] = self.unread
        if not self.pairs:
            return made
        commanded, seen = (joined(parts) for parts in zip(*self.pairs))
        made["frames_read"] = len(seen)
        if self.tasks:
            made["keyboard"] = keyboard_precision(commanded, seen, self.tasks)
        if self.camera:
            made["camera"] = camera_precision(commanded, seen)
        return made


def layout_of(name: str) -> Layout:
    """A layout by name. Raises UsageError if there is none."""
    if name not in LAYOUTS:
        raise UsageError(unknown_key(name, LAYOUTS, "--layout"))
    return LAYOUTS[name]


def _commanded(folder: Path, file: str, layout: Layout) -> Controls:
    """The actions of a clip, from its name or its side file. Raises VidarError if clip or file is wrong."""
    found = measure(folder / file)
    frames = int(found["frames"])
    if layout.frames not in (None, frames):
        raise VidarError(f"{frames} frames, the layout has {layout.frames}")
    if layout.read is None:
        return script_of(file).controls(frames)
    side = (folder / file).parent / layout.side
    try:
        content = json.loads(side.read_text(encoding="utf-8"))
        return layout.read(cast(Mapping[str, Any], content), frames)
    except OSError as error:
        raise VidarError(f"{layout.side} is not readable ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise VidarError(f"{layout.side} lacks a field of the layout, or is no JSON ({error})") from None


def _absent(files: list[str], known: ClipFolder | None) -> list[Problem]:
    """Clips of the manifest, or, without one, actions of the table, that are not there."""
    if known is not None:
        absent = [str(clip["file"]) for clip in known.clips if str(clip["file"]) not in files]
        return [Problem(file, "missing", "does not exist") for file in absent]
    there: set[str] = set()
    for file in files:
        try:
            there.add(script_of(file).name)
        except VidarError:
            return []  # names of another table of actions; what is wrong with them is told clip by clip
    return [Problem(one.name, "missing", "no clip of this action") for one in SCRIPTS if one.name not in there]


def _reader(known: ClipFolder | None, idm: str | os.PathLike[str] | None) -> tuple[InverseDynamicsNet | None, str]:
    """The inverse-dynamics model, or None with the reason why there is none."""
    if idm is not None:
        return InverseDynamicsNet.from_pretrained(idm), ""
    world = None if known is None else str(known.header.get("world"))
    folder = None if world is None else shipped(world)
    if folder is None:
        return None, "no inverse-dynamics model ships for these clips, so their actions are not read; give --idm"
    return InverseDynamicsNet.from_pretrained(folder), ""
