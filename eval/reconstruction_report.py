"""The page of `vidar eval reconstruction`: originals above what came back, the curve over the frames, all episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidar.eval.plots import Curve, curves, strip
from vidar.eval.report import Card, Section, code, facts, folded, image, page, plot, table
from vidar.eval.video_report import COLUMNS, WIDE, distance_section

GAIN = 4  # of the picture of the error
NAMES = {"psnr": ("PSNR", " dB", 2), "ssim": ("SSIM", "", 4), "lpips": ("LPIPS", "", 4)}


def reconstruction_page(report: Mapping[str, Any], examples: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """The HTML page. report: as in report.json; examples: (original, reconstruction) uint8 [T, H, W, 3] by caption."""
    data = report["data"]
    every = "every frame" if report["every"] == 1 else f"every {report['every']}th frame"
    lead = (
        f"{report['tokenizer']} on {data['videos']:,} videos of {data['path']}"
        f"{', split ' + data['split'] if data['split'] else ''}, {every}. {report['hardware']}."
    )
    note = f"Each triple of rows: the original, what comes back, and {GAIN} times the difference around grey."
    sections = [
        Section("What comes back", note, [_triple(caption, *pair) for caption, pair in examples.items()]),
        _curves(report),
        *([distance_section(report)] if report["distances"] else []),
        _episodes(report),
        Section("Again", "An interrupted run goes on where it stopped.", [code(report["command"])]),
    ]
    return page("Reconstruction", lead, _cards(report), sections, kicker="vidar eval reconstruction")


def _cards(report: Mapping[str, Any]) -> list[Card]:
    cards: list[Card] = []
    for key, one in report["means"].items():
        name, unit, digits = NAMES[key]
        ends = f"95 % over episodes: {one['low']:.{digits}f} .. {one['high']:.{digits}f}"
        by = f", {report['lpips_by']}" if key == "lpips" else ""
        cards.append(Card(f"{one['mean']:.{digits}f}{unit}", f"{name}{by}", ends))
    return cards


def _triple(caption: str, original: np.ndarray, back: np.ndarray) -> str:
    error = np.clip(128 + GAIN * (back.astype(int) - original), 0, 255).astype(np.uint8)
    columns = np.unique(np.linspace(0, len(back) - 1, min(COLUMNS, len(back))).round().astype(int)).tolist()
    return image(strip([original, back, error], columns, max(1, round(WIDE / back.shape[2]))), caption)


def _curves(report: Mapping[str, Any]) -> Section:
    step, pieces = report["per_frame"]["step"], list[str]()
    for key, (name, unit, _) in NAMES.items():
        if key in report["per_frame"]:
            half = np.array([width or 0.0 for width in report["per_frame"][f"{key}_half"]])
            curve = Curve(name, np.array(report["per_frame"][key]), half)
            drawn = curves([curve], f"{name}{unit}", "judged frame")
            pieces.append(plot(drawn, name))
    note = f"Mean over the episodes that are long enough, with its 95 % interval; one in {step} frames is judged."
    return Section("Over the frames", note, pieces)


def _episodes(report: Mapping[str, Any]) -> Section:
    names = list(report["means"])
    head = ["episode", "frames", *(NAMES[name][0] for name in names)]
    rows = [
        [one["name"], str(one["frames"]), *(f"{one[name]:.{NAMES[name][2]}f}" for name in names)]
        for one in sorted(report["episodes"], key=lambda one: one["psnr"])
    ]
    pieces = [folded(f"all {len(rows)} episodes, the worst first", table(head, rows))]
    if report["scales"]:
        words = [[f"scale {k}", f"{one['perplexity']:.0f}", f"{one['words']:,}"]
                 for k, one in enumerate(report["scales"])]  # fmt: skip
        pieces.append(table(["codewords", "perplexity", "counted"], words))
    if report["data"]["left_out"]:
        pieces.append(facts({one["name"]: one["reason"] for one in report["data"]["left_out"]}))
    return Section("Episodes", "Figures of an episode are means over its judged frames.", pieces)
