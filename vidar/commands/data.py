"""`vidar record` and `vidar data`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from vidar.commands import show

Folder = Annotated[Path, typer.Argument(metavar="DATA", help="Folder with the shards.", show_default=False)]
Split = Annotated[str, typer.Option(help="Split to read (default: the first one).")]


def record(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="vizdoom, shapes (synthetic), or a gymnasium environment id.")
    ],
    episodes: Annotated[int, typer.Option(help="Number of episodes to record.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write the shards to.", show_default=False)],
    frames: Annotated[int | None, typer.Option(help="Maximum number of frames per episode.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first episode; each further episode adds 1.")] = 0,
    split: Annotated[str, typer.Option(help="Name of the split to write.")] = "train",
    scenario: Annotated[str | None, typer.Option(help="ViZDoom scenario (default: my_way_home).")] = None,
    height: Annotated[
        int | None, typer.Option(help="Frame height in pixels (default: a size that the recipes train on).")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Frame width in pixels, together with --height.")] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            help="gymnasium only: record what it draws (render), what it observes (observation), or the part of this "
            "NAME of what it observes (default: the observation if it is a picture in colours, else render)."
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second (not ViZDoom; default: as the environment says).")
    ] = None,
    frame_skip: Annotated[int | None, typer.Option(help="ViZDoom only: game tics per frame.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Policy that plays: explore, mixture (as people play), circuits (held-out data), blind or hold "
            "(default: depends on SOURCE)."
        ),
    ] = None,
    as_json: show.Json = False,
) -> None:
    """Play a game automatically and record its episodes as webdataset shards."""
    from vidar.data.gym import GymConfig
    from vidar.data.policies import named_policy
    from vidar.data.record import record as run
    from vidar.data.synthetic import ShapesConfig
    from vidar.data.vizdoom import VizdoomConfig

    options: dict[str, Any] = {"scenario": scenario, "height": height, "width": width, "picture": picture, "fps": fps}
    options["frame_skip"] = frame_skip
    given = {name: value for name, value in options.items() if value is not None}
    games = {"vizdoom": VizdoomConfig, "shapes": ShapesConfig}
    env = games[source](**given) if source in games else GymConfig(env_id=source, **given)
    player = None if policy is None else named_policy(policy)
    with show.progress("episodes") as progress, redirect_stdout(sys.stderr):  # games print
        made = run(env, player, out, episodes=episodes, frames=frames, seed=seed, split=split, progress=progress)
    show.result(made, as_json)


def validate(data: Folder, as_json: show.Json = False) -> None:
    """Check every sample for missing, damaged, misdeclared or out-of-step parts. Exit code 1 if one has a problem."""
    from dataclasses import asdict

    from vidar.data.validate import validate as run

    with show.progress("samples") as progress:
        done = count(1)
        report = run(data, progress=lambda _: progress(next(done), None))
    show.result({"ok": report.ok, **asdict(report)}, as_json, report.lines())
    raise typer.Exit(0 if report.ok else 1)


def inspect(data: Folder, as_json: show.Json = False) -> None:
    """Print the sizes, hours and sources of a data set and how often each action occurs."""
    from vidar.data.inspect import inspect as run

    show.result(run(data), as_json)


def preview(
    data: Folder,
    out: Annotated[
        Path, typer.Option(help="Name of the file: .png shows many episodes, .mp4 shows one episode with its actions.")
    ],
    episode: Annotated[str, typer.Option(help="Number or key of the episode (mp4 only).")] = "0",
    split: Split = "",
) -> None:
    """Draw a data set: a contact sheet of episodes, or one episode with its actions on the frames."""
    from vidar.data.preview import contact_sheet, preview_video
    from vidar.types import UsageError

    if out.suffix == ".png":
        contact_sheet(data, out, split=split)
    elif out.suffix == ".mp4":
        preview_video(data, out, int(episode) if episode.isdigit() else episode, split)
    else:
        raise UsageError(f"{out}: --out must end in .png (many episodes) or .mp4 (one episode)")
    typer.echo(str(out))


def clip(
    data: Folder,
    out: Annotated[Path, typer.Option(help="Name of the .mp4 file to write.", show_default=False)],
    episode: Annotated[str, typer.Option(help="Number or key of the episode.")] = "0",
    split: Split = "",
    start: Annotated[int, typer.Option(min=0, help="Number of the first frame.")] = 0,
    frames: Annotated[int | None, typer.Option(min=1, help="Number of frames (default: to the end).")] = None,
    as_json: show.Json = False,
) -> None:
    """Write one episode, or a part of it, as a video with its actions: x.mp4, x.npy and x.csv.

    The video can be the --context of `vidar generate`, x.npy its --actions; `vidar data convert` reads x.csv.
    """
    from vidar.data.clip import write_clip

    which = int(episode) if episode.isdigit() else episode
    show.result(write_clip(data, out, which, split, start, frames), as_json)
