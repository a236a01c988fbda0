"""`vidar data convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vidar.commands import show

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        help="Folder of videos (NAME.mp4, .mov, .mkv, .webm, ...), each with a table of its actions (NAME.csv, .jsonl "
        "or .parquet), a caption (NAME.txt, or one metadata.csv or metadata.jsonl for all videos), or both.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(help="Folder for the shards; the same command again continues in it.", show_default=False),
]
Spec = Annotated[
    Path | None,
    typer.Option(help="YAML file of an ActionSpec: the columns of the tables (default: videos without actions)."),
]
Fps = Annotated[float | None, typer.Option(help="Frames per second of the videos.", show_default=False)]
TargetFps = Annotated[
    float | None,
    typer.Option(
        help="Lower frame rate to write. Frames are dropped, and the actions between two frames are combined."
    ),
]
Every = Annotated[
    int | None, typer.Option(min=1, help="Keep each N-th frame only; the actions between two frames are combined.")
]
Stamp = Annotated[
    Literal["check", "count"],
    typer.Option(
        help="check: the time stamps in the videos must agree with --fps. count: the time stamps are ignored, every "
        "frame is kept and lasts 1/FPS seconds."
    ),
]
Row = Annotated[
    Literal["every", "between", "at"] | None,
    typer.Option(
        help="every: the table has one row per frame; row t is the action between frames t-1 and t, and row 0 is "
        "ignored. between: the table has one row less, because row 0 is left out. at: one row per frame; row t is the "
        "action taken at frame t, which leads to frame t+1 (as in VPT and LeRobot), and the last row is ignored. A "
        "column `frame` (number of the frame) or `time` (seconds since the first frame) can say it instead (default: "
        "every).",
    ),
]
Units = Annotated[
    Literal["bins", "degrees", "pixels"],
    typer.Option(help="Unit of the camera columns in the tables; degrees and pixels are converted to bins."),
]
PixelDegrees = Annotated[
    float | None, typer.Option(help="Turn of the camera in degrees per pixel of mouse motion (default: 0.15).")
]
HeldOut = Annotated[
    float, typer.Option(help="Share of the recordings to write to the split `heldout` instead, such as 0.1.")
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Keep all episodes that the split holds, and add what is missing (default: "
        "continue only if all of them come from these recordings).",
    ),
]
Height = Annotated[
    int | None, typer.Option(min=8, help="Crop and resize frames to this height in pixels (default: unchanged).")
]
Width = Annotated[
    int | None, typer.Option(min=8, help="Crop and resize frames to this width in pixels (default: unchanged).")
]


def convert(
    folder: Folder,
    out: Out,
    spec: Spec = None,
    fps: Fps = None,
    target_fps: TargetFps = None,
    every: Every = None,
    stamps: Stamp = "check",
    rows: Row = None,
    camera_units: Units = "bins",
    degrees_per_pixel: PixelDegrees = None,
    split: Annotated[str, typer.Option(help="Name of the split to write.")] = "train",
    heldout: HeldOut = 0.0,
    height: Height = None,
    width: Width = None,
    resume: Resume = False,
    as_json: show.Json = False,
) -> None:
    """Convert a folder of your own videos, with their actions or captions, into shards.

    Every file is checked before anything is written.
    """
    from dataclasses import asdict

    from vidar.actions import ActionSpec
    from vidar.config import load_file
    from vidar.data.convert import Conversion, convert_folder
    from vidar.types import UsageError

    actions = ActionSpec() if spec is None else load_file(spec)
    if not isinstance(actions, ActionSpec):
        raise UsageError(f"{spec}: holds a {type(actions).__name__}; --spec needs type: vidar.actions.ActionSpec")
    if (height is None) != (width is None):
        raise UsageError("--height and --width must be given together; give both or none")
    size = None if height is None or width is None else (height, width)
    conversion = Conversion(
        spec=actions, fps=fps, target_fps=target_fps, every=every, stamps=stamps, rows=rows,
        camera_units=camera_units, degrees_per_pixel=degrees_per_pixel, size=size,
    )  # fmt: skip

    with show.progress("recordings") as progress:
        made = convert_folder(
            folder, out, conversion, split, heldout=heldout, resume=resume, say=show.warn, progress=progress
        )
    show.result({"out": str(out), "split": split, **asdict(made)}, as_json)
