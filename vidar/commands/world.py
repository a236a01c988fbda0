"""Commands on trained worlds: generate, demo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vidar.commands import show


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
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Refinement steps a frame (default: the model's).")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    as_json: show.Json = False,
) -> None:
    """Dream a video in a learned world."""
    import torch

    from vidar.check import check_device
    from vidar.world.clip import ClipRequest, write_clip

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # one stream is many small calls: a second thread gains little, and loses much if late
    request = ClipRequest(
        model=model, out=str(out), frames=frames, seed=seed, steps=steps, device=check_device(device),
        context=None if context is None else str(context), actions=None if actions is None else str(actions),
    )  # fmt: skip
    with show.progress("frames") as progress:
        made = write_clip(request, progress)
    shown = {key: made[key] for key in ("video", "frames", "fps", "latency_ms")}
    show.result(made, as_json, show.flat(shown))


def demo(
    out: Annotated[Path, typer.Option(help="Folder for dream.mp4, report.html, report.json.")] = Path("runs/demo"),
    model: Annotated[str, typer.Option(help="A shipped world, or the folder of one.")] = "doom",
    episodes: Annotated[int, typer.Option(min=2, help="Held-out episodes to play.")] = 16,
    frames: Annotated[int, typer.Option(min=16, help="Frames to dream in each.")] = 48,
    seed: Annotated[int, typer.Option(help="Seed of the games and of the dream.")] = 0,
    as_json: show.Json = False,
) -> None:
    """Play a real game, dream the same actions beside it, and report how far the dream drifts."""
    from vidar.eval.demo import demo as run

    made = run(out, model, episodes, frames, seed)
    gains = {f"gain over {name} (dB)": value for name, value in made["gains"].items()}
    shown = {key: made[key] for key in ("world", "params", "episodes", "fps", "latency_ms")}
    show.result(made, as_json, show.flat({**shown, **gains, "report": str(out / "report.html")}))
