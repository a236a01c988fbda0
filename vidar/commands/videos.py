"""`vidar eval videos` and `vidar eval features`: distances of sets of videos, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidar.commands import show

FEATURES_HELP = (
    "frozen (the encoder of the world doom), frozen=MODEL, pixels, random3d, i3d=FILE, videomae=FILE, vjepa=FILE or "
    "FOLDER; may be repeated. i3d=FILE is TorchScript: loading it runs the program in that file."
)


def videos(
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Folder of real videos (mp4, webm, mkv, gif, npy) or of "
                                         "recorded shards.", show_default=False)],
    generated: Annotated[Path, typer.Argument(metavar="GENERATED", help="Folder of generated videos, likewise.",
                                              show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json and the features; the same command "
                                      "again goes on in it.", show_default=False)],
    features: Annotated[list[str] | None, typer.Option(help=FEATURES_HELP)] = None,
    frames: Annotated[int | None, typer.Option(min=2, help="Frames of a clip (default: 16).")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Take every n-th frame (default: 1).")] = None,
    clips: Annotated[str, typer.Option(metavar="N|full", help="Clips per side, or all that do not overlap.")] = "full",
    protocol: Annotated[str | None, typer.Option(help="Published sampling instead of --frames, --stride and --clips: "
                                                 "fvd2048_16f, fvd2048_128f, fvd2048_128f_subsample8f.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Resize both sides (default: they must agree).")]
    = None,
    real_split: Annotated[str | None, typer.Option(help="Split of REAL, if it is shards (default: heldout if there is "
                                                   "one, else the first).")] = None,
    generated_split: Annotated[str | None, typer.Option(help="Split of GENERATED, likewise.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of clips.")] = 0,
    device: show.Device = "cpu",
    as_json: show.Json = False,
) -> None:  # fmt: skip
    """Measure how far generated videos are from real ones: Frechet distance (FVD), KID, JEDi."""
    from vidar.check import check_device
    from vidar.commands.world import read_size
    from vidar.eval.clip_features import Sampling
    from vidar.eval.video_distance import Comparison, compare
    from vidar.types import UsageError

    if protocol is not None and (frames is not None or stride is not None or clips != "full"):
        raise UsageError("--protocol sets --frames, --stride and --clips; give it without them")
    if clips != "full" and not (clips.isdigit() and int(clips) > 2):
        raise UsageError(f"--clips is {clips!r}, but must be full or a number from 3 on")
    sampling = Sampling(frames or 16, stride or 1, None if clips == "full" else int(clips))
    wide, high = (0, 0) if size is None else read_size(size)
    asked = Comparison(
        str(real), str(generated), str(out), features=tuple(features or ["frozen"]), sampling=sampling,
        protocol=protocol, size=None if size is None else (high, wide), splits=(real_split, generated_split),
        seed=seed, device=check_device(device),
    )  # fmt: skip
    made = compare(asked, show.progress, show.warn)
    lines = {row["label"]: _headline(row) for row in made["distances"]}
    show.result(made, as_json, show.flat({**lines, "report": str(out / "report.html")}))


def features(
    real: Annotated[Path, typer.Argument(metavar="REAL.npy", help="Features of real clips, numbers [N, d].",
                                         show_default=False)],
    generated: Annotated[Path, typer.Argument(metavar="GENERATED.npy", help="Features of generated clips [M, d].",
                                              show_default=False)],
    as_json: show.Json = False,
) -> None:  # fmt: skip
    """Measure the distances of two files of features from any network: Frechet distance, KID, JEDi."""
    from vidar.eval.video_distance import distances_of_files

    show.result(distances_of_files(real, generated), as_json)


def _headline(row: dict[str, Any]) -> dict[str, Any]:
    frechet, shown = row["frechet"], {"kid": _kid(row)}
    if "refused" in frechet:
        shown = {"frechet": frechet["refused"], **shown}
    else:
        ends = f"{frechet['distance']:.5g} (95 % {frechet['low']:.4g} .. {frechet['high']:.4g})"
        unbiased = frechet["unbiased"]
        limit = "not known below 4 d clips" if unbiased is None else f"{unbiased:.5g}"
        shown = {"frechet": ends, "for N to infinity": limit, **shown}
    if "jedi" in row:
        shown["jedi"] = f"{row['jedi']:.5g}"
    if row["real_halves"]:
        shown["kid of real halves"] = _kid(row["real_halves"])
    return shown


def _kid(row: dict[str, Any]) -> str:
    return f"{row['kid']['value']:.4g} +- {row['kid']['standard_error']:.2g}"
