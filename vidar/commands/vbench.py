"""`vidar eval vbench`: the videos of VBench, their check, its environment, its scores and their total."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from vidar.commands import show

Out = Annotated[Path, typer.Option(help="Folder of the videos and their manifest.", show_default=False)]
Videos = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that was given with --out of sample.")]
Info = Annotated[
    Path | None, typer.Option(help="Official prompts (default: VBench_full_info.json in the environment of setup).")
]
Home = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the environment (default: vbench in the cache folder).")
]
Dimension = Annotated[
    list[str] | None, typer.Option(help="Only this dimension; may be repeated (default: all).", show_default=False)
]
Images = Annotated[Path | None, typer.Option(help="Folder of the pictures of mode i2v.")]


def sample(
    out: Out,
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Shipped model or model folder.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Videos that another program made, instead of MODEL; they are copied.")
    ] = None,
    mode: Annotated[str, typer.Option(help="standard, custom, long (5 s and more) or i2v.")] = "standard",
    info: Info = None,
    prompts: Annotated[Path | None, typer.Option(help="Own prompts of mode custom, one per line.")] = None,
    dimension: Dimension = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only the first N prompts of each dimension.")] = None,
    videos: Annotated[int, typer.Option(min=1, help="Videos of each own prompt.")] = 5,
    images: Images = None,
    frames: Annotated[
        int | None, typer.Option(min=2, help="Frames of a video (default: the length of the model's clips).")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Length in seconds, instead of --frames.")] = None,
    seed: Annotated[int, typer.Option(help="Each video has a seed of its own that follows from this.")] = 0,
    steps: show.Steps = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Resize the frames (default: the model's size).")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes, one thread each.")] = 1,
    device: show.Device = "cpu",
    home: Home = None,
    cache: show.Cache = None,
    as_json: show.Json = False,
) -> None:
    """Make the videos that VBench wants, under its names; running the same command again continues."""
    from vidar.check import check_device
    from vidar.commands.world import read_size
    from vidar.data.cache import keep_in
    from vidar.eval.vbench_sample import SampleRequest
    from vidar.eval.vbench_sample import sample as run
    from vidar.eval.vbench_setup import home as place
    from vidar.eval.vbench_setup import info_file

    keep_in(cache)
    if info is None and mode in ("standard", "long"):
        info = info_file(place(home))
    request = SampleRequest(
        out=str(out), mode=cast(Any, mode), model=model, folder=_text(folder), info=_text(info), prompts=_text(prompts),
        dimensions=tuple(dimension or ()), first=first, videos=videos, images=_text(images), frames=frames,
        seconds=seconds, seed=seed, steps=steps, size=None if size is None else read_size(size), workers=workers,
        device=check_device(device),
    )  # fmt: skip
    with show.progress("videos") as progress:
        made = run(request, progress, show.warn)
    shown = {name: made[name] for name in ("out", "videos", "made", "kept", "missing")}
    show.result(made, as_json, show.flat({**shown, "missing": len(made["missing"])}))
    raise typer.Exit(1 if made["missing"] else 0)


def check(
    folder: Videos,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames that every video must have.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second that every video must have.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size that every video must have.")] = None,
    as_json: show.Json = False,
) -> None:
    """Decode every video and name those that are missing, damaged, changed or of another length, size or range."""
    from vidar.commands.world import read_size
    from vidar.eval.vbench_sample import check as run

    width, height = (None, None) if size is None else read_size(size)
    expected = {"frames": frames, "fps": fps, "width": width, "height": height}
    made = run(folder, {name: value for name, value in expected.items() if value is not None}, show.warn)
    shown = {"videos": made["videos"], "good": made["good"], **made["by_kind"]}
    show.result(made, as_json, show.flat(shown))
    raise typer.Exit(1 if made["problems"] else 0)


def setup(
    out: Annotated[Path | None, typer.Option(help="Folder (default: vbench in the cache folder).")] = None,
    python: Annotated[
        Path | None, typer.Option(help="Python 3.10 or 3.11 to make it with (default: one that is found).")
    ] = None,
    cache: show.Cache = None,
    as_json: show.Json = False,
) -> None:
    """Make the environment of the official package (7 GB), apart from that of vidar."""
    from vidar.data.cache import keep_in
    from vidar.eval.vbench_setup import setup as run

    keep_in(cache)
    made = run(out, python, show.warn)
    show.result(made, as_json, show.flat({name: one for name, one in made.items() if name != "packages"}))


def score(
    folder: Videos,
    dimension: Dimension = None,
    native: Annotated[
        bool, typer.Option("--native", help="Our own closed-form dimensions instead, without the official package.")
    ] = False,
    static: Annotated[
        str, typer.Option(help="Filter before temporal_flickering: official, blockmatch (ours) or none.")
    ] = "official",
    long: Annotated[bool, typer.Option("--long", help="Score own prompts as VBench-Long does.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Score although videos are missing.")] = False,
    info: Info = None,
    images: Images = None,
    resolution: Annotated[str, typer.Option(help="Aspect ratio of the pictures of mode i2v.")] = "1-1",
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the networks (default: $VBENCH_CACHE_DIR).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the file of results (default: the mode).")] = None,
    device: Annotated[str, typer.Option(help="Device of the official package.")] = "cpu",
    home: Home = None,
    cache: show.Cache = None,
    as_json: show.Json = False,
) -> None:
    """Score the videos with the official package, one dimension after another; what has a score is kept."""
    from vidar.data.cache import keep_in
    from vidar.eval.vbench_score import ScoreRequest, score_native
    from vidar.eval.vbench_score import score as run

    keep_in(cache)
    if native:
        with show.progress("videos") as progress:
            made = score_native(folder, progress)
        return show.result(made, as_json)
    request = ScoreRequest(
        out=str(folder), home=_text(home), info=_text(info), dimensions=tuple(dimension or ()),
        static=cast(Any, static), weights=_text(weights), long=long, images=_text(images), resolution=resolution,
        partial=partial, name=name, device=device,
    )  # fmt: skip
    made = run(request, show.warn)
    shown = {**made, "failed": len(made["failed"])}
    show.result(made, as_json, show.flat(shown))
    raise typer.Exit(1 if made["failed"] else 0)


def total(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Results, NAME_eval_results.json.")],
    suite: Annotated[str, typer.Option(help="standard, long, i2v or vbench2.")] = "standard",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse if a dimension has no score, instead of counting it as 0.")
    ] = False,
    as_json: show.Json = False,
) -> None:
    """Quality, Semantic and Total as the leaderboard computes them; a dimension without a score counts as 0."""
    from vidar.eval.vbench_total import read_scores
    from vidar.eval.vbench_total import total as run

    made = run(read_scores(files), suite, strict)
    if made["missing"]:
        show.warn(f"{len(made['missing'])} dimensions have no score and count as 0: {', '.join(made['missing'])}")
    if made["not_counted"]:
        show.warn(f"not part of {suite}: {', '.join(made['not_counted'])}")
    scores = {name: one["normalised"] for name, one in made["dimensions"].items() if one["score"] is not None}
    show.result(made, as_json, show.flat({"dimensions": scores, **made["groups"], "total": made["total"]}))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
