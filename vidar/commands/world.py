"""Commands on trained worlds: generate, demo."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from vidar.commands import show

Schedule = Annotated[
    str | None,
    typer.Option(
        help="Denoising schedule, which sets how many frames are denoised at once: one, chunks:length=4, "
        "pyramid:delay=1, pipeline:stages=2, asynchronous:ar_step=1,window=4, rolling (default: the model's)."
    ),
]
Out = Annotated[
    Path, typer.Option(help="Video (.mp4, .webm, .gif) or image (.png) to write; its .json file says how it was made.")
]
Size = Annotated[
    str | None, typer.Option(metavar="WxH", help="Resize the frames, as in 320x256 (default: the model's size).")
]
Context = Annotated[
    Path | None,
    typer.Option(help="Clip (.mp4) or image (.png) to continue; not part of the output (default: the model's own)."),
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Network calls per frame, for models that take it (default: the model's).")
]


def generate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a shipped model, or a model folder.")],
    out: Out,
    frames: Annotated[int | None, typer.Option(help="Frames to generate (default: one per action row).")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length in seconds, instead of --frames.")] = None,
    size: Size = None,
    context: Context = None,
    actions: Annotated[
        Path | None, typer.Option(help="Array (.npy) [N, A], one row per new frame (default: nothing pressed).")
    ] = None,
    prompt: show.Prompt = None,
    label: show.Label = None,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    steps: Steps = None,
    renew: Annotated[
        int | None, typer.Option(min=1, help="Re-encode the last frames every N frames to limit drift.")
    ] = None,
    recache: Annotated[
        bool,
        typer.Option(
            "--recache", help="On an action change, recompute the KV cache of past frames under the new action."
        ),
    ] = False,
    schedule: Schedule = None,
    no_memory: show.NoMemory = False,
    compile_: Annotated[
        bool,
        typer.Option("--compile", help="Compile the network first; takes minutes and pays off for long videos."),
    ] = False,
    device: show.Device = "cpu",
    cache: show.Cache = None,
    cache_limit: show.CacheLimit = None,
    as_json: show.Json = False,
) -> None:
    """Generate a video with a world model, or an image or clip from a prompt or class label."""
    import torch

    from vidar.check import check_device
    from vidar.commands.schedule import read_schedule
    from vidar.data.cache import keep_in
    from vidar.model.files import GenerateRequest, write

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # one stream is many small calls: a second thread gains little, and loses much if late
    keep_in(cache, cache_limit)
    request = GenerateRequest(
        model=model, out=str(out), frames=frames, seconds=seconds, seed=seed, steps=steps, label=label, prompt=prompt,
        size=None if size is None else read_size(size), device=check_device(device),
        renew=renew, recache=recache, no_memory=no_memory, compile=compile_,
        schedule=None if schedule is None else read_schedule(schedule),
        context=None if context is None else str(context), actions=None if actions is None else str(actions),
    )  # fmt: skip
    with show.progress("frames") as progress:
        made = write(request, progress)
    show.warn_of_few_steps(model)
    shown = {key: made[key] for key in ("video", "frames", "fps", "latency_ms")}
    show.result(made, as_json, show.flat(shown))


def read_size(text: str) -> tuple[int, int]:
    """Width and height in pixels from "320x256". Raises UsageError."""
    from vidar.types import UsageError

    found = re.fullmatch(r"([0-9]{1,6})[xX]([0-9]{1,6})", text.strip())
    if found is None:
        raise UsageError(f"--size {text}: give width and height in pixels, such as 320x256")
    return int(found[1]), int(found[2])


def demo(
    out: Annotated[Path, typer.Option(help="Folder for dream.mp4, report.html, report.json.")] = Path("runs/demo"),
    model: Annotated[str, typer.Option(help="Name of a shipped world, or a model folder.")] = "doom",
    episodes: Annotated[int, typer.Option(min=2, help="Number of held-out episodes to play.")] = 32,
    frames: Annotated[int, typer.Option(min=16, help="Frames to generate per episode.")] = 48,
    seed: Annotated[int, typer.Option(help="Seed of the games and of the dreams.")] = 0,
    record: show.Record = None,
    as_json: show.Json = False,
) -> None:
    """Play a real game, generate the same play with the world model, and report how far the two drift apart."""

    from vidar.eval.demo import demo as run

    made = run(out, model, episodes, frames, seed, recipe=record)
    shown = {name: value for name, value in made.items() if name in show.HEADLINES}
    show.result(made, as_json, show.flat({**shown, "report": str(out / "report.html")}))
