"""The page of `vidar eval videos`: clips of both sides first, then the distances and what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidar.eval.plots import strip
from vidar.eval.report import Card, Section, code, facts, image, page, table

COLUMNS = 8  # frames of a clip on the page
WIDE = 150  # pixels that a frame is enlarged to, if it is smaller


def videos_page(report: Mapping[str, Any], real: Sequence[np.ndarray], generated: Sequence[np.ndarray]) -> str:
    """The HTML page. report: as in report.json; real, generated: some clips, uint8 [F, H, W, 3] each."""
    sides = report["real"], report["generated"]
    lead = (
        f"{sides[0]['clips']:,} clips of {sides[0]['videos']:,} real videos and {sides[1]['clips']:,} clips of "
        f"{sides[1]['videos']:,} generated ones, {report['sampling']['frames']} frames each. {report['hardware']}."
    )
    note = (
        "Frames of some clips, one clip per row, evenly spaced over each side. If a size, a crop or the compression of "
        "the sides differs, the distances measure that as well."
    )
    looks = Section("What was compared", note, [_sheet("real", real), _sheet("generated", generated)])
    sections = [looks, distance_section(report), _sides(report), Section("Again", "", [code(report["command"])])]
    return page("Distances of videos", lead, _cards(report), sections, kicker="vidar eval videos")


def _cards(report: Mapping[str, Any]) -> list[Card]:
    cards: list[Card] = []
    for row in report["distances"]:
        name, frechet, kid = row["extractor"].partition("-")[0], row["frechet"], row["kid"]
        if "refused" in frechet:
            cards.append(Card(f"{kid['value']:.4g}", f"KID in {name} features", f"+- {kid['standard_error']:.2g}; no "
                              f"Frechet distance: N is not above d = {row['dim']}", "open"))  # fmt: skip
        else:
            ends = f"95 % {frechet['low']:.4g} .. {frechet['high']:.4g}; for N to infinity {_limit(frechet)}"
            cards.append(
                Card(f"{frechet['distance']:.4g}", f"Frechet distance in {name} features", f"{ends}; KID {_kid(row)}")
            )
    return cards


def _limit(frechet: Mapping[str, Any]) -> str:
    return "not known" if frechet["unbiased"] is None else f"{frechet['unbiased']:.4g}"


def distance_section(report: Mapping[str, Any]) -> Section:
    """The distances of a report, with the refused ones explained."""
    with_jedi = any("jedi" in row for row in report["distances"])
    head = ["features", "Frechet", "95 % interval", "N to infinity", "KID", *(["JEDi"] if with_jedi else []), "d"]
    rows: list[list[str]] = []
    for row in report["distances"]:
        frechet = row["frechet"]
        if "refused" in frechet:
            figures = ["refused", "-", "-"]
        else:
            ends = f"{frechet['low']:.4g} .. {frechet['high']:.4g}"
            figures = [f"{frechet['distance']:.5g}", ends, _limit(frechet)]
        jedi = [f"{row['jedi']:.4g}" if "jedi" in row else "-"] if with_jedi else []
        rows.append([row["label"], *figures, _kid(row), *jedi, str(row["dim"])])
        if scale := row.get("real_halves"):
            far = "-" if scale["frechet"] is None else f"{scale['frechet']:.5g}"
            counts = " and ".join(f"{count:,}" for count in scale["clips"])
            rows.append(
                [f"for scale: {counts} of the real clips", far, "", "", _kid(scale), *([""] if with_jedi else []), ""]
            )
    refused = {row["label"]: row["frechet"]["refused"] for row in report["distances"] if "refused" in row["frechet"]}
    note = (
        "Smaller is closer, and only figures with the same label can be compared. The Frechet distance of N clips is "
        "too large by about a constant over N; its value for N to infinity is extrapolated from 4 d clips on, its "
        "interval is a bootstrap over videos. KID has no such bias and can be below 0; +- is one standard error."
    )
    return Section("Distances", note, [table(head, rows), *([facts(refused)] if refused else [])])


def _kid(row: Mapping[str, Any]) -> str:
    return f"{row['kid']['value']:.4g} +- {row['kid']['standard_error']:.2g}"


def _sides(report: Mapping[str, Any]) -> Section:
    pieces: list[str] = []
    head = ["side", "videos", "clips", "frames", "size", "frames/s", "full range", "left out"]
    rows: list[list[str]] = []
    for what in ("real", "generated"):
        one = report[what]
        name = f"{what}: {one['path']}" + (f", split {one['split']}" if one["split"] else "")
        rate = "not known" if one["fps"] is None else f"{one['fps']:.4g}"
        counts = [f"{one[key]:,}" for key in ("videos", "clips", "frames")]
        rows.append([name, *counts, one["size"], rate, str(one["of_full_range"]), str(len(one["left_out"]))])
    pieces.append(table(head, rows))
    left = [[f"{what}: {one['name']}", one["reason"]] for what in ("real", "generated")
            for one in report[what]["left_out"]]  # fmt: skip
    if left:
        pieces.append(table(["left out", "why"], left))
    if report["warnings"]:
        pieces.append(facts({f"warning {n}": line for n, line in enumerate(report["warnings"], 1)}))
    note = "Limited-range video is expanded to 0 .. 255 by the decoder, as a player does; full-range video is not."
    return Section("The videos", note, pieces)


def _sheet(what: str, clips: Sequence[np.ndarray]) -> str:
    frames = len(clips[0])
    columns = np.unique(np.linspace(0, frames - 1, min(COLUMNS, frames)).round().astype(int)).tolist()
    scale = max(1, round(WIDE / clips[0].shape[2]))
    return image(strip(clips, columns, scale), what, [f"frame {column + 1}" for column in columns])
