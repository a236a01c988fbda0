"""The page about a world: numbers against the trivial answers, drift, looks, latency, and where it went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidar.eval.plots import Curve, curves, strip
from vidar.eval.report import Section, image, page, plot, table, video
from vidar.eval.world_eval import WorldScores, interval

TITLES = {
    "model": "dreamed",
    "copy_last": "last frame repeated",
    "mean_frame": "mean frame",
    "shuffled_actions": "dreamed, wrong actions",
}
UNITS = {"sharpness": "variance of the Laplacian", "brightness": "mean luma", "contrast": "deviation of luma"}
MARKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # frames shown in the table, and the last one


def world_page(report: Mapping[str, Any], scores: WorldScores, latencies: np.ndarray, film: bytes) -> str:
    """The HTML file. report: as report.json; latencies: ms a frame [n]; film: mp4."""
    sections = [
        Section(
            "Real and dreamed",
            "The world sees the context frames of the real game once, then only the pressed keys. Both sides get the "
            "same keys; a lit cap is a pressed key.",
            [video(film, "dream.mp4: left the game, right the dream, same keys")],
        ),
        _numbers(scores),
        _drift(scores),
        _looks(scores),
        _latency(report, latencies),
        _worst(scores),
    ]
    lead = (
        f"World '{report['world']}', {report['params'] / 1e6:.2f} M parameters, dreaming {report['episodes']} held-out "
        f"episodes of {report['frames']} frames ({report['frames'] / report['fps']:.1f} s) beside the real game. "
        f"{report['hardware']}, {report['threads']} thread{'s' if report['threads'] > 1 else ''}. "
        "Bands and intervals are 95 % Student-t over episodes."
    )
    return page(f"vidar demo: {report['world']}", lead, _cards(report), sections)


def _cards(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    gains, rate = report["gains"], 1000 / report["latency_ms"]["p50"]
    return [
        (f"{report['psnr']['model'][0]:.1f} dB", "PSNR of the first dreamed frame"),
        (f"{gains['copy_last']['mean']:+.1f} dB", _over("repeating the last frame", gains["copy_last"])),
        (f"{gains['shuffled_actions']['mean']:+.1f} dB", _over("wrong actions", gains["shuffled_actions"])),
        (f"{report['latency_ms']['p50']:.0f} ms", f"a frame, median of one player ({rate:.0f} frames/s)"),
    ]


def _over(what: str, gain: Mapping[str, Any]) -> str:
    return f"over {what}, frames {gain['frames'][0]} to {gain['frames'][1]}"


def _numbers(scores: WorldScores) -> Section:
    total = scores.real.shape[1]
    marks = [frame for frame in MARKS if frame < total] + [total]
    rows = []
    for name, values in scores.psnr.items():
        mean, half = interval(values)
        rows.append([TITLES[name], *(f"{mean[m - 1]:.2f} \u00b1 {half[m - 1]:.2f}" for m in marks)])
    gained = [
        [
            f"over {TITLES[name]}",
            f"{g.frames[0]} to {g.frames[1]}",
            f"{g.mean:+.2f}",
            f"{g.low:+.2f} to {g.high:+.2f}",
        ]
        for name, g in scores.gains.items()
    ]
    return Section(
        "Against the trivial answers",
        "PSNR in dB against the real frame, mean over the episodes. A world that has learned the game must beat a "
        "still picture at once, and must be worse under the keys of another episode. A frame repeated exactly (the "
        "player stands still) counts as 58.9 dB, what rounding to 8 bits allows.",
        [
            table(["PSNR, dB", *(f"frame {m}" for m in marks)], rows),
            table(["paired gain of the dream, dB", "frames", "mean", "95 % interval"], gained),
        ],
    )


def _drift(scores: WorldScores) -> Section:
    fidelity = [Curve(TITLES[name], *interval(values)) for name, values in scores.psnr.items()]
    model = scores.psnr["model"]
    over = [
        Curve(f"over {TITLES[name]}", *interval(model - values))
        for name, values in scores.psnr.items()
        if name != "model"
    ]
    zero = Curve("no gain", np.zeros(model.shape[1]), reference=True)
    return Section(
        "Drift",
        "How long the dream stays with the game. PSNR also falls where a dream is plausible but another: read it "
        "together with the sharpness below.",
        [
            plot(curves(fidelity, "PSNR, dB"), "Fidelity by frame"),
            plot(curves([zero, *over], "paired gain, dB"), "Gain by frame; above 0 the dream wins"),
        ],
    )


def _looks(scores: WorldScores) -> Section:
    pieces = []
    for name, pair in scores.looks.items():
        lines = [Curve(who, *interval(pair[key])) for who, key in (("dreamed", "model"), ("real", "real"))]
        pieces.append(plot(curves(lines, UNITS.get(name, name), floor=0.0), name.capitalize()))
    return Section(
        "Looks",
        "A stable dream keeps the looks of the game. Falling sharpness is blur; the real curves move with the game.",
        pieces,
    )


def _latency(report: Mapping[str, Any], latencies: np.ndarray) -> Section:
    level = np.ones(len(latencies))
    lines = [
        Curve("one frame", latencies),
        Curve("p95", level * report["latency_ms"]["p95"], reference=True),
        Curve("p50", level * report["latency_ms"]["p50"], reference=True),
        Curve("real time", level * 1000 / report["fps"], reference=True),
    ]
    row = [report["latency_ms"]["p50"], report["latency_ms"]["p95"], 1000 / report["fps"]]
    return Section(
        "Latency",
        "Milliseconds from a pressed key to the decoded frame, one player, after a warm-up, with the settings of the "
        "dreams above.",
        [
            plot(curves(lines, "ms", "frame of the stream", floor=0.0), "Time of each frame"),
            table(["", "p50, ms", "p95, ms", "real time, ms"], [["one frame", *(f"{ms:.1f}" for ms in row)]]),
        ],
    )


def _worst(scores: WorldScores, count: int = 3, columns: int = 8) -> Section:
    means = scores.psnr["model"].mean(1)
    shown = np.unique(np.linspace(0, scores.real.shape[1] - 1, columns).round().astype(int))
    frames = ", ".join(str(k + 1) for k in shown)
    pieces = [
        image(
            strip((scores.real[e], scores.dreamed[e]), shown.tolist()),
            f"{scores.names[e]}: mean {means[e]:.2f} dB. Above real, below dreamed; frames {frames}",
        )
        for e in np.argsort(means)[:count]
    ]
    return Section("The worst episodes", "The lowest mean PSNR of all; nothing is left out.", pieces)
