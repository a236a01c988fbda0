"""`vidar record` and `vidar data`."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from vidar.commands import show

Folder = Annotated[Path, typer.Argument(metavar="DATA", help="Folder of shards.", show_default=False)]
Split = Annotated[str, typer.Option(help="Split; the first one where none is named.")]


def record(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="vizdoom, shapes, or the id of a gymnasium environment.")
    ],
    episodes: Annotated[int, typer.Option(help="Number of episodes.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the shards.", show_default=False)],
    frames: Annotated[int | None, typer.Option(help="Frames of an episode, at most.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first episode; the next ones count on.")] = 0,
    split: Annotated[str, typer.Option(help="Name of the split.")] = "train",
    scenario: Annotated[str | None, typer.Option(help="ViZDoom scenario (default: my_way_home).")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels.")] = None,
    frame_skip: Annotated[int | None, typer.Option(help="ViZDoom: tics a frame.")] = None,
    policy: Annotated[str | None, typer.Option(help="Who plays: explore, blind or hold (default: by source).")] = None,
    as_json: show.Json = False,
) -> None:
    """Play a game and write its episodes as shards."""
    from vidar.data.explore import named_policy
    from vidar.data.gym import GymConfig
    from vidar.data.record import record as run
    from vidar.data.synthetic import ShapesConfig
    from vidar.data.vizdoom import VizdoomConfig

    options: dict[str, Any] = {"scenario": scenario, "height": height, "width": width, "frame_skip": frame_skip}
    given = {name: value for name, value in options.items() if value is not None}
    games = {"vizdoom": VizdoomConfig, "shapes": ShapesConfig}
    env = games[source](**given) if source in games else GymConfig(env_id=source, **given)
    player = None if policy is None else named_policy(policy)
    with show.progress("episodes") as progress:
        made = run(env, player, out, episodes=episodes, frames=frames, seed=seed, split=split, progress=progress)
    show.result(made, as_json)


def validate(data: Folder, as_json: show.Json = False) -> None:
    """Check every sample: present, as declared, undamaged, in step. Exit code 1 where there is a problem."""
    from dataclasses import asdict

    from vidar.data.validate import validate as run

    with show.progress("samples") as progress:
        done = count(1)
        report = run(data, progress=lambda _: progress(next(done), None))
    show.result({"ok": report.ok, **asdict(report)}, as_json, report.lines())
    raise typer.Exit(0 if report.ok else 1)


def inspect(data: Folder, as_json: show.Json = False) -> None:
    """Print sizes, hours, sources and how often each action is used."""
    from vidar.data.inspect import inspect as run

    show.result(run(data), as_json)


def preview(
    data: Folder,
    out: Annotated[Path, typer.Option(help="x.png: a sheet of many episodes; x.mp4: one episode with its keys.")],
    episode: Annotated[str, typer.Option(help="Number or key of the episode (mp4).")] = "0",
    split: Split = "",
) -> None:
    """Draw a data set for people."""
    from vidar.data.preview import contact_sheet, preview_video
    from vidar.types import UsageError

    if out.suffix == ".png":
        contact_sheet(data, out, split=split)
    elif out.suffix == ".mp4":
        preview_video(data, out, int(episode) if episode.isdigit() else episode, split)
    else:
        raise UsageError(f"{out}: preview writes .png (many episodes) or .mp4 (one episode)")
    typer.echo(str(out))


def convert(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="NAME.mp4 with NAME.csv beside it.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards.", show_default=False)],
    spec: Annotated[Path, typer.Option(help="YAML of an ActionSpec: what the columns mean.", show_default=False)],
    fps: Annotated[float, typer.Option(help="Frames per second of the videos.", show_default=False)],
    split: Annotated[str, typer.Option(help="Name of the split.")] = "train",
    height: Annotated[
        int | None, typer.Option(min=8, help="Make frames this high (default: as they are), cut to shape.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=8, help="Make frames this wide.")] = None,
    as_json: show.Json = False,
) -> None:
    """Turn your own recordings into shards."""
    from vidar.actions import ActionSpec
    from vidar.config import load_file
    from vidar.data.convert import convert_folder
    from vidar.types import UsageError

    actions = load_file(spec)
    if not isinstance(actions, ActionSpec):
        raise UsageError(f"{spec}: is a {type(actions).__name__}; --spec wants type: vidar.actions.ActionSpec")
    if (height is None) != (width is None):
        raise UsageError("--height and --width belong together; give both or none")
    size = None if height is None or width is None else (height, width)
    made = convert_folder(folder, out, actions, fps, split, size)
    show.result({"out": str(out), "split": split, "episodes": made}, as_json)
