"""The page about a world: comparison with baselines, keys, drift, frame statistics, latency, worst episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidar.eval.plots import Curve, curves, ranked, strip
from vidar.eval.protocol import GAINS, WORLD, span
from vidar.eval.report import Bar, Card, Mood, Section, bars, code, facts, folded, image, page, plot, table, video
from vidar.eval.world_eval import WorldScores, interval, ratio_interval

TITLES = {
    "model": "dreamed",
    "copy_last": "last frame repeated",
    "mean_frame": "mean frame",
    "shuffled_actions": "dreamed, wrong keys",
    "real": "the game",
}
TONE = {"model": 0, "shuffled_actions": 1, "real": 2, "mean_frame": 3, "copy_last": 4}
UNITS = {"brightness": "mean luma", "contrast": "deviation of luma", "sharpness": "variance of the Laplacian"}
MARKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # frames shown in the table, and the last one


def world_page(
    title: str,
    report: Mapping[str, Any],
    scores: WorldScores,
    latencies: np.ndarray,
    film: bytes,
    strips: Section | None = None,
) -> str:
    """The HTML page. report: as in report.json; latencies: ms per frame [n]; film: mp4; strips: of the ruler."""
    sections = [
        *([] if strips is None else [strips]),
        Section(
            "Side by side",
            "The world sees the context frames of the real game once, and after that only the pressed keys. Both sides "
            "receive the same keys; a lit cap is a pressed key. These are the first episodes, not the best ones.",
            [video(film, "dream.mp4: the real game on the left, the dream on the right, under the same keys")],
        ),
        _keys(report),
        _numbers(scores),
        _fidelity(scores),
        _looks(scores),
        _worst(scores),
        _latency(report, latencies),
        _protocol(report),
    ]
    lead = (
        f"{report['params'] / 1e6:.2f} M parameters dream {report['episodes']} held-out episodes of {report['frames']} "
        f"frames ({report['frames'] / report['fps']:.1f} s) beside the real game, under the same keys. "
        "Bands and intervals are 95 % Student-t intervals over episodes."
    )
    return page(f"World '{report['world']}'", lead, _cards(report), sections, kicker=title)


def _cards(report: Mapping[str, Any]) -> list[Card]:
    gains, means, ms = report["gains"], report["means"], report["latency_ms"]
    score, real_time = report["action_score"], 1000 / report["fps"]
    first, last = means["frames"]
    cards = [
        _gain("over repeating the last frame", gains["copy_last"]),
        _gain("over the wrong keys", gains["shuffled_actions"]),
        Card(f"{report['sharpness_ratio']:.0%}", "of the sharpness of the game", f"frames {first} to {last}"),
        Card(
            f"{means['psnr']:.1f} dB",
            f"PSNR, frames {first} to {last}",
            f"first frame {report['psnr']['model'][0]:.1f} dB; SSIM {means['ssim']:.3f}",
        ),
        Card(
            f"{ms['p50']:.0f} ms",
            f"per frame, median for one player ({1000 / ms['p50']:.0f} frames/s)",
            f"p95 {ms['p95']:.0f} ms; real time is {real_time:.0f} ms",
            "good" if ms["p95"] <= real_time else "bad",
        ),
    ]
    if "ruler" in report:
        model = report["ruler"]["rows"]["model"]
        detail = f"{model['on_manifold']:.0%} of the frames look like the game"
        cards.insert(0, Card(f"{model['likeness']:.2f}", "likeness to the game, which has 1.00", detail))
    if score is not None:
        rest = (
            f"the game itself {_number(score['real']['mean'])}, wrong keys {_number(score['shuffled_actions']['mean'])}"
        )
        cards.insert(-3, Card(_number(score["model"]["mean"]), "keys read back (balanced accuracy)", rest))
    return cards


def _gain(what: str, gain: Mapping[str, Any]) -> Card:
    first, last = gain["frames"]
    mood: Mood = "good" if gain["low"] > 0 else "bad" if gain["high"] < 0 else "open"
    detail = f"frames {first} to {last}; 95 %: {gain['low']:+.2f} to {gain['high']:+.2f}"
    return Card(f"{gain['mean']:+.2f} dB", f"PSNR {what}", detail, mood)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _keys(report: Mapping[str, Any]) -> Section:
    title, score = "Does it obey its keys?", report["action_score"]
    if score is None:
        return Section(title, f"Action scores were not computed: {report['action_score_left_out']}.", [])
    rows = {
        group: [Bar(TITLES[who], score[who].get(group), TONE[who]) for who in ("real", "model", "shuffled_actions")]
        for group in score["real"]
    }
    return Section(
        title,
        "An inverse-dynamics model reads the keys back from the frames. Shown is its balanced accuracy over the steps "
        "in which the recorded pose changed as the keys say. The real game is the upper limit; the lower limit is the "
        f"dream under another episode's keys, compared with the true keys. The model: {report['action_score_by']}.",
        [bars(rows, report["action_score_chance"], "guessing")],
    )


def _numbers(scores: WorldScores) -> Section:
    total = scores.real.shape[1]
    marks = [frame for frame in MARKS if frame < total] + [total]
    rows = []
    for name, values in scores.psnr.items():
        mean, half = interval(values)
        rows.append([TITLES[name], *(f"{mean[m - 1]:.2f} \u00b1 {half[m - 1]:.2f}" for m in marks)])
    pieces = [table(["PSNR, dB", *(f"frame {m}" for m in marks)], rows)]
    for name, frames in GAINS.items():
        each = (scores.psnr["model"] - scores.psnr[name])[:, span(frames)].mean(1)
        won = f"better in {int((each > 0).sum())} of {len(each)}"
        caption = f"Over {TITLES[name]}, frames {frames[0]} to {frames[1]}: {won}"
        pieces.append(plot(ranked(each, "gain, dB", "episodes, from the worst to the best"), caption))
    return Section(
        "Comparison with trivial baselines",
        "PSNR in dB against the real frame, mean over the episodes. A world that has learned the game must be better "
        "than a still picture, and must be worse under the keys of another episode. An exactly repeated frame (a "
        "player who stands still) counts as 58.9 dB, the limit of rounding to 8 bits.",
        pieces,
    )


def _fidelity(scores: WorldScores) -> Section:
    def all_of(each: Mapping[str, np.ndarray]) -> list[Curve]:
        return [Curve(TITLES[name], *interval(values), tone=TONE[name]) for name, values in each.items()]

    model = scores.psnr["model"]
    over = {name: model - values for name, values in scores.psnr.items() if name != "model"}
    ratio = ratio_interval(scores.looks["sharpness"]["model"], scores.looks["sharpness"]["real"])
    one = Curve("the game", np.ones(model.shape[1]), reference=True, tone=TONE["real"])
    return Section(
        "Drift",
        "How long the dream follows the game, frame by frame. PSNR also falls when a dream is plausible but different, "
        "and it rewards blur, so read it together with the sharpness.",
        [
            plot(curves(all_of(scores.psnr), "PSNR, dB"), "Fidelity (PSNR)"),
            plot(curves(all_of(scores.ssim), "SSIM"), "Structure (SSIM)"),
            plot(
                curves(all_of(over), "paired gain, dB"),
                "Gain of the dream over a baseline; above 0 the dream is better",
            ),
            plot(
                curves([Curve("dreamed", *ratio, tone=TONE["model"]), one], "dreamed / real", floor=0.0),
                "Sharpness relative to the game",
            ),
        ],
    )


def _looks(scores: WorldScores) -> Section:
    pieces = []
    for name, pair in scores.looks.items():
        lines = [Curve(TITLES[who], *interval(pair[who]), tone=TONE[who]) for who in ("model", "real")]
        pieces.append(plot(curves(lines, UNITS.get(name, name), floor=0.0), name.capitalize()))
    return Section(
        "Frame statistics",
        "A stable dream keeps the frame statistics of the game. Falling sharpness means blur; if the other curves "
        "separate, light or colour drifts. The real curves change with the game.",
        pieces,
    )


def _worst(scores: WorldScores, count: int = 4, columns: int = 8) -> Section:
    means = scores.psnr["model"].mean(1)
    rising = np.argsort(means)
    shown = np.unique(np.linspace(0, scores.real.shape[1] - 1, columns).round().astype(int)).tolist()
    chosen = dict.fromkeys([*(int(e) for e in rising[:count]), int(rising[len(rising) // 2]), int(rising[-1])])
    place = {int(e): k for k, e in enumerate(rising, 1)}
    pieces = [
        image(
            strip((scores.real[e], scores.dreamed[e]), shown),
            f"{scores.names[e]}: mean {means[e]:.2f} dB, place {place[e]} of {len(means)} from the worst. Top row: the "
            "game; bottom row: the dream",
            [f"frame {k + 1}" for k in shown],
        )
        for e in chosen
    ]
    kinds = list(scores.psnr)
    rows = [[scores.names[e], *(f"{scores.psnr[kind][e].mean():.2f}" for kind in kinds)] for e in rising]
    listed = table(["mean PSNR, dB", *(TITLES[kind] for kind in kinds)], rows)
    return Section(
        "Worst cases first",
        "The episodes with the lowest mean PSNR, then the median and the best episode for comparison. The list of all "
        "episodes is below.",
        [*pieces, folded(f"All {len(means)} episodes, from the worst", listed)],
    )


def _latency(report: Mapping[str, Any], latencies: np.ndarray) -> Section:
    level = np.ones(len(latencies))
    lines = [
        Curve("one frame", latencies, tone=0),
        Curve("p95", level * report["latency_ms"]["p95"], reference=True, tone=3),
        Curve("p50", level * report["latency_ms"]["p50"], reference=True, tone=4),
        Curve("real time", level * 1000 / report["fps"], reference=True, tone=2),
    ]
    row = [report["latency_ms"]["p50"], report["latency_ms"]["p95"], 1000 / report["fps"]]
    return Section(
        "Latency",
        "Milliseconds from a key press to the decoded frame for one player, after a warm-up, with the settings of the "
        f"dreams above. {report['hardware']}, {report['threads']} thread{'s' if report['threads'] > 1 else ''}.",
        [
            plot(curves(lines, "ms", "frame of the stream", floor=0.0), "Time of each frame"),
            plot(ranked(latencies, "ms", "frames, from the shortest to the longest"), "Spread"),
            table(["", "p50, ms", "p95, ms", "real time, ms"], [["one frame", *(f"{ms:.1f}" for ms in row)]]),
        ],
    )


def _protocol(report: Mapping[str, Any]) -> Section:
    frozen = {name: getattr(WORLD, name) for name in ("episodes", "frames", "seed", "steps")}
    used = report["protocol"]
    changed = [f"{name} {used[name]} instead of {value}" for name, value in frozen.items() if used[name] != value]
    if "data" in report:
        source = f"{report['data']}, split {report['split']}"
        source += f"; {report['short_episodes_left_out']} shorter episodes were left out"
        changed.insert(0, "recorded episodes instead of the fixed games")
    else:
        source = f"ViZDoom {report['scenario']}, games {report['seeds'][0]} to {report['seeds'][-1]}"
    rows = {
        "Episodes": f"{report['episodes']} held-out episodes: {source}",
        "Context": f"{report['context']} real frames with their keys; after that only keys",
        "Horizon": f"{report['frames']} frames at {report['fps']:g} frames/s",
        "Sampler": f"{report['steps']} steps per frame, the world's own settings" if used["steps"] is None
        else f"{report['steps']} steps per frame, set by --steps",
        "Noise": f"seed {report['seed']}; the same for the wrong keys, which are those of the next episode",
        "Baselines": "the last context frame repeated; the mean frame of other episodes; the dream under wrong keys",
        "Differences to the fixed protocol": "; ".join(changed) if changed else "none",
        "Versions": ", ".join(f"{name} {number}" for name, number in report["versions"].items()),
    }  # fmt: skip
    return Section(
        "How it was measured", "The command below reproduces this page.", [facts(rows), code(report["command"])]
    )
