"""Commands on trained worlds: generate, eval, demo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vidar.commands import show

# what a terminal shows of a report
HEADLINES = (
    *("world", "params", "episodes", "frames", "fps", "latency_ms", "means", "gains", "sharpness_ratio"),
    *("action_score", "action_score_left_out", "passed", "survival"),
)

Record = Annotated[
    str | None,
    typer.Option(
        metavar="RECIPE", help="Write the figures beside the recipe whose weights these are (for a checkout)."
    ),
]


def generate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A shipped world, or the folder of one.")],
    out: Annotated[Path, typer.Option(help="Video to write; x.json beside it says how it was made.")],
    frames: Annotated[int | None, typer.Option(help="Frames to write (default: as many as actions).")] = None,
    context: Annotated[
        Path | None, typer.Option(help="Start: .mp4 or .png, never written (default: the model's own).")
    ] = None,
    actions: Annotated[
        Path | None, typer.Option(help=".npy [N, A]: one row for each new frame (default: nothing pressed).")
    ] = None,
    prompt: show.Prompt = None,
    label: show.Label = None,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Refinement steps a frame (default: the model's).")] = None,
    renew: Annotated[
        int | None, typer.Option(min=1, help="After so many frames go on from the last ones, encoded anew.")
    ] = None,
    recache: Annotated[
        bool, typer.Option("--recache", help="Where actions change, the frames before are seen as if made under them.")
    ] = False,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="How many frames are in flight: one, chunks:length=4, pyramid:delay=1, pipeline:stages=2, "
            "asynchronous:ar_step=1,window=4, rolling (default: the model's)."
        ),
    ] = None,
    compile_: Annotated[
        bool,
        typer.Option("--compile", help="Compile the calls of the network first (minutes); for long videos."),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    as_json: show.Json = False,
) -> None:
    """Dream a video in a learned world, or make a picture or clip from a prompt or label."""
    import torch

    from vidar.check import check_device
    from vidar.commands.schedule import read_schedule
    from vidar.model.files import GenerateRequest, write

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # one stream is many small calls: a second thread gains little, and loses much if late
    request = GenerateRequest(
        model=model, out=str(out), frames=frames, seed=seed, steps=steps, device=check_device(device), label=label,
        prompt=prompt, renew=renew, recache=recache, compile=compile_,
        schedule=None if schedule is None else read_schedule(schedule),
        context=None if context is None else str(context), actions=None if actions is None else str(actions),
    )  # fmt: skip
    with show.progress("frames") as progress:
        made = write(request, progress)
    shown = {key: made[key] for key in ("video", "frames", "fps", "latency_ms")}
    show.result(made, as_json, show.flat(shown))


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A shipped world, or the folder of one.")],
    suite: Annotated[str, typer.Option(help="What to measure: world, endless.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.", show_default=False)],
    data: Annotated[Path | None, typer.Option(help="Recorded shards (default: the frozen games of ViZDoom).")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the shards (default: heldout).")] = None,
    episodes: Annotated[
        int | None, typer.Option(min=2, help="Episodes, or endless rollouts (default: the suite's).")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=16, help="Frames to dream in each (default: the suite's).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the dream and of the games (default: 0).")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Refinement steps a frame (default: the model's).")] = None,
    idm: Annotated[
        Path | None, typer.Option(help="Inverse-dynamics network for the action scores (default: the shipped one).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ... (default: cpu).")] = None,
    record: Record = None,
    as_json: show.Json = False,
) -> None:
    """Measure a world by a frozen protocol and write a report."""
    from vidar.check import check_device
    from vidar.eval.suites import run_suite

    options = {
        "data": data, "split": split, "episodes": episodes, "frames": frames, "seed": seed, "steps": steps, "idm": idm,
        "device": None if device is None else check_device(device),
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    made = run_suite(suite, model, out, given, record)
    shown = {name: value for name, value in made.items() if name in HEADLINES}
    show.result(made, as_json, show.flat({**shown, "report": str(out / "report.html")}))


def demo(
    out: Annotated[Path, typer.Option(help="Folder for dream.mp4, report.html, report.json.")] = Path("runs/demo"),
    model: Annotated[str, typer.Option(help="A shipped world, or the folder of one.")] = "doom",
    episodes: Annotated[int, typer.Option(min=2, help="Held-out episodes to play.")] = 32,
    frames: Annotated[int, typer.Option(min=16, help="Frames to dream in each.")] = 48,
    seed: Annotated[int, typer.Option(help="Seed of the games and of the dream.")] = 0,
    record: Record = None,
    as_json: show.Json = False,
) -> None:
    """Play a real game, dream the same actions beside it, and report how far the dream drifts."""
    from vidar.eval.demo import demo as run

    made = run(out, model, episodes, frames, seed, recipe=record)
    shown = {name: value for name, value in made.items() if name in HEADLINES}
    show.result(made, as_json, show.flat({**shown, "report": str(out / "report.html")}))
