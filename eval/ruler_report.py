"""The page of the suite `ruler`: strips of every player first, then the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidar.eval.plots import TONES, curves, mean_curve, strip
from vidar.eval.report import Card, Section, code, image, page, plot, table, video
from vidar.eval.ruler_measure import REAL, PlayerScores
from vidar.eval.ruler_summary import MARKS, on_manifold_by_second
from vidar.eval.ruler_worker import MODEL, Pictures
from vidar.eval.tiles import Tile, tiled
from vidar.eval.worst_cases import Case, worst_cases

FILM = 10  # seconds
NAMES = {REAL: "the game", MODEL: "this model"}


def ruler_page(
    report: Mapping[str, Any],
    pictures: Mapping[str, Pictures],
    players: Mapping[str, PlayerScores],
    threshold: float,
) -> str:
    """The HTML page. report: as in report.json."""
    fps = report["fps"]
    longest = max(report["frames"].values()) / fps
    lead = (
        f"{report['params'] / 1e6:.2f} M parameters are played as people play, up to {longest:.0f} s each from "
        f"{report['starts']} places of the real game; the game gets the same keys. {report['hardware']}."
    )
    sections = [
        strips_section(pictures, fps),
        _film(pictures, fps),
        _likeness(report),
        _over_time(players, threshold, fps),
        _worst(pictures, players, threshold, fps),
        _figures(report),
        _fidelity(report),
        _seen_again(report),
        Section(
            "Again",
            "Command to repeat this report; an interrupted run goes on where it stopped.",
            [code(report["command"])],
        ),
    ]
    return page(
        f"World '{report['world']}'", lead, _cards(report), sections, kicker=f"vidar eval, suite {report['suite']}"
    )


def marks(frames: int, fps: float) -> list[float]:
    """The seconds that a strip shows: those of MARKS that were played, and the end."""
    last = round(frames / fps, 1)
    return [*(float(mark) for mark in MARKS if mark < last), last]


def strips_section(pictures: Mapping[str, Pictures], fps: float) -> Section:
    """Game and dream of the first start of every player."""
    pieces = []
    for name, one in pictures.items():
        seconds = marks(len(one.game[0]) - 1, fps)
        pieces.append(image(player_strip(one, fps, seconds), name, [f"{second:g} s" for second in seconds]))
    note = "The same keys for both: the game above, the dream below. The first column is the last real frame."
    return Section("What the players see", note, pieces)


def player_strip(one: Pictures, fps: float, seconds: Sequence[float]) -> bytes:
    """PNG of game and dream of the first start, at these seconds."""
    last = len(one.game[0]) - 1
    return strip([one.game[0], one.dream[0]], [min(round(second * fps), last) for second in seconds], scale=1)


def _film(pictures: Mapping[str, Pictures], fps: float) -> Section:
    end = 1 + round(FILM * fps)
    tiles = [Tile(name, (one.game[0, 1:end], one.dream[0, 1:end])) for name, one in pictures.items()]
    return Section(
        "Side by side", "", [video(tiled(tiles, fps), f"The first {FILM} s of the first start of every player")]
    )


def _cards(report: Mapping[str, Any]) -> list[Card]:
    model, real = report["rows"][MODEL], report["rows"][REAL]
    low, high = model["interval"]
    idle = report["players"].get("idle", {}).get(MODEL)
    cards = [
        Card(
            f"{model['likeness']:.2f}", "likeness to the game, which has 1.00", f"95 % interval {low:.2f} to {high:.2f}"
        ),
        Card(
            f"{model['on_manifold']:.0%}",
            "of dreamed frames look like this game",
            f"the game: {real['on_manifold']:.1%}",
        ),
        Card(f"{model['worst_player']['on_manifold']:.0%}", f"for the worst player, {model['worst_player']['name']}"),
    ]
    if idle is not None:
        last = list(idle["held_db"])[-1]
        game = report["players"]["idle"][REAL]["held_db"][last]
        detail = f"the game {_db(game)} dB, worst start {_db(idle['held_db_worst'][last])} dB"
        cards.append(
            Card(f"{_db(idle['held_db'][last])} dB", f"to the first frame after {last} s without keys", detail)
        )
    return cards


def _likeness(report: Mapping[str, Any]) -> Section:
    rows = []
    for row, one in report["rows"].items():
        parts = ("-" if value is None else f"{value:.2f}" for value in one["parts"].values())
        low, high = one["interval"]
        rows.append([NAMES.get(row, row), f"{one['likeness']:.3f}", f"{low:.2f} to {high:.2f}", *parts])
    head = ["", "likeness", "95 %", *next(iter(report["rows"].values()))["parts"]]
    note = (
        "The likeness is the geometric mean of its parts; each is 1 for the real game. docs/notes/evaluation.md "
        "defines them, and shows which faults each of them sees. Copy-last repeats the last real frame; retrieval "
        "shows, second by second, the recorded play with the nearest keys."
    )
    return Section("Likeness to the game", note, [table(head, rows)])


def _over_time(players: Mapping[str, PlayerScores], threshold: float, fps: float) -> Section:
    rows = next(iter(players.values())).rows
    lines = [
        mean_curve(NAMES.get(row, row), on_manifold_by_second(players, row, threshold, fps), tone=number % TONES)
        for number, row in enumerate(rows)
    ]
    note = "Mean over players and starts, with 95 % bootstrap intervals over the starts."
    picture = plot(curves(lines, "share of frames", floor=0.0, fps=1.0), "Frames that look like this game, by second")
    return Section("Over time", note, [picture])


def _worst(
    pictures: Mapping[str, Pictures], players: Mapping[str, PlayerScores], threshold: float, fps: float
) -> Section:
    cases = []
    for name, one in pictures.items():
        score = players[name].rows[MODEL].score[one.number]
        told = f"{np.mean(score > threshold):.0%} of its frames do not look like this game"
        cases.append(Case(name, one.seed, float(score.mean()), told, (one.game[1], one.dream[1])))
    shortest = min(len(one.game[1]) - 1 for one in pictures.values())
    return Section(
        "Worst cases", "The plays that look least like the game.", worst_cases(cases, marks(shortest, fps), fps)
    )


def _figures(report: Mapping[str, Any]) -> Section:
    rows = []
    for name, by_row in report["players"].items():
        pairs = (
            (by_row[who][what] for who in (MODEL, REAL)) for what in ("off_manifold", "off_manifold_worst_segment")
        )
        rows.append(
            [
                name,
                *(f"{value:.1%}" for pair in pairs for value in pair),
                *(f"{by_row[who]['survived_s']:.1f}" for who in (MODEL, REAL)),
                *(f"{by_row[who]['motion']:.2f}" for who in (MODEL, REAL)),
            ]
        )
    pairs = ["not this game", "worst 2 s", "seconds survived", "change per frame"]
    head = ["player", *(text for what in pairs for text in (what, "(the game)"))]
    note = (
        "Share of frames that do not look like frames of this game. The threshold flags 1 % of other real play. A "
        "dream survives until half of the frames of 2 s do not look like the game. The change is the mean absolute "
        "difference of neighbouring frames in grey levels."
    )
    return Section("On and off the game", note, [table(head, rows)])


def _fidelity(report: Mapping[str, Any]) -> Section:
    seconds = sorted({int(s) for by_row in report["players"].values() for s in by_row[MODEL]["truth_db"]})
    rows = []
    for name, by_row in report["players"].items():
        for row, one in by_row.items():
            if row != REAL:
                rows.append([f"{name}: {NAMES.get(row, row)}", *(_db(one["truth_db"].get(str(s))) for s in seconds)])
    idle = report["players"].get("idle", {})
    for what, key in (("median", "held_db"), ("worst start", "held_db_worst")):
        for row in (row for row in (MODEL, REAL) if row in idle):
            values = (_db(idle[row][key].get(str(s))) for s in seconds)
            rows.append([f"idle, to the first frame, {what}: {NAMES[row]}", *values])
    head = ["PSNR in dB, median over the starts", *(f"{s} s" for s in seconds)]
    note = "Each row against the game under the same keys; and idle against the frame at which the keys were let go."
    return Section("Fidelity", note, [table(head, rows)])


def _seen_again(report: Mapping[str, Any]) -> Section:
    rows = []
    for name, by_row in report["players"].items():
        for gap, real in by_row[REAL]["seen_again"].items():
            pairs = (by_row[row]["seen_again"][gap] for row in (MODEL, REAL))
            cells = (text for pair in pairs for text in (_db(pair["db"]), f"{pair['features']:.2f}"))
            rows.append([f"{name}, after {gap} s", str(real["views"]), *cells])
    head = ["player", "views", "dream, dB", "features", "game, dB", "features"]
    note = (
        "A view of the dream against the same view of the same dream some seconds before, with another view between. "
        "The poses of the real game tell which views are the same. PSNR, and the distance in the features of the "
        "detector, medians."
    )
    return Section("Seen again", note, [table(head, rows)])


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
