"""`vidar eval reconstruction`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidar.commands import show
from vidar.commands.videos import FEATURES_HELP


def reconstruction(
    tokenizer: Annotated[str, typer.Argument(metavar="TOKENIZER", help="Folder of a tokenizer, or a model (folder or "
                                             "name), whose tokenizer is taken.", show_default=False)],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of recorded shards or of videos.",
                                         show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json and the figures of each video; the "
                                      "same command again goes on in it.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="Split of the shards (default: heldout if there is one, else the "
                                              "first).")] = None,
    features: Annotated[list[str] | None, typer.Option(help="Also the distance of 16-frame clips to their originals "
                                                       f"(reconstruction FVD) in these features: {FEATURES_HELP}")]
    = None,
    lpips: Annotated[str | None, typer.Option(metavar="FILE[,FILE]", help="Also LPIPS, with weights from these files: "
                                              "the state of lpips.LPIPS, or AlexNet or VGG-16 of torchvision and the "
                                              "linear weights of the package.")] = None,
    device: show.Device = "cpu",
    record: show.Record = None,
    as_json: show.Json = False,
) -> None:  # fmt: skip
    """Measure what a tokenizer loses: PSNR, SSIM, LPIPS, codewords, reconstruction FVD."""
    from vidar.check import check_device
    from vidar.eval.reconstruction import Reconstruction, of_reconstruction, run

    asked = Reconstruction(
        tokenizer, str(data), str(out), split, tuple(features or ()), tuple(lpips.split(",")) if lpips else (),
        check_device(device), record,
    )  # fmt: skip
    made = run(asked, show.progress)
    told, figures = of_reconstruction(made)
    lines = [f"{figure}, {told}" for figure in figures]
    for row in made["distances"]:
        frechet, kid = row["frechet"], row["kid"]
        far = frechet.get("distance")
        shown = f"Frechet {far:.4g}" if far is not None else "no Frechet distance, too few clips"
        lines.append(f"{shown}, KID {kid['value']:.4g} +- {kid['standard_error']:.2g}: {row['label']}")
    show.result(made, as_json, [*lines, f"report {out / 'report.html'}"])
