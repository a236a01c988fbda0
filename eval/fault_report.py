"""The fault table as a page and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidar.eval.fault_worker import PICTURED, pictured
from vidar.eval.report import Card, Section, code, folded, image, page, table

SHOWN = (0, 1, 4, 8)  # strengths whose figures are printed
DOCS = "docs/fault-table.md"
RULE = (
    "A metric sees a fault if its printed figure worsens at every step from one strength to the next, from the real "
    "clip on. A number is the count of such steps out of eight; 'prefers' stands behind it where the strongest fault "
    "is judged better than the real clip."
)


def fault_page(report: Mapping[str, Any], strips: Mapping[str, bytes]) -> str:
    """The HTML page. report: as in faults.json; strips: PNG of each fault."""
    headline, fps = report["headline"], report["fps"]
    heads = [f"{number / fps:.1f} s" for number in pictured(report["frames"])]
    strengths = ", ".join(map(str, PICTURED))
    pictures = [image(strips[fault], f"{fault}: {what}", heads) for fault, what in report["faults"].items()]
    broken = [f"{name}: {fault}" for name, fault in report["broken_claims"]]
    sections = [
        Section("The faults", f"Strengths s = {strengths} from top to bottom; 0 is the real game.", pictures),
        Section("What metrics see", RULE, [table(*_overview(report))]),
        Section(
            "Figures",
            "Values at some strengths, and the steps at which they worsen.",
            [folded(fault, table(*_figures(report, fault))) for fault in report["faults"]],
        ),
        Section(
            "Claims",
            "The faults that a metric claims to see, and does not.",
            [table(["metric: fault"], [[text] for text in broken or ["none"]])],
        ),
        Section("Again", "An interrupted run goes on where it stopped.", [code(report["command"])]),
    ]
    cards = [
        Card(
            f"{headline['seen']} of {headline['of']}",
            f"faults are seen by the {headline['metric']}",
            ", ".join(headline["blind"]) and f"not: {', '.join(headline['blind'])}",
            "good" if headline["seen"] >= headline["of"] - 1 else "bad",
        ),
        Card(
            str(len(headline["not_below_real"])),
            f"of {report['strengths'] * headline['of']} clips with a fault are not judged below the real ones",
        ),
        Card(str(len(broken)), "claims do not hold"),
    ]
    return page("Which faults do metrics see?", _lead(report), cards, sections, kicker="vidar eval faults")


def fault_text(report: Mapping[str, Any]) -> str:
    """The page of the documentation, Markdown."""
    headline = report["headline"]
    blind = f" It is blind to: {', '.join(headline['blind'])}." if headline["blind"] else ""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    parts = [
        "# Which faults do metrics see?",
        f"Made by `vidar eval faults{report['options']} --docs {DOCS} --out runs/faults` ({versions}). Do not edit.",
        _lead(report),
        f"**The {headline['metric']} sees {headline['seen']} of {headline['of']} faults.**{blind} Clips with a fault "
        f"that it does not judge below the real clip: {len(headline['not_below_real'])} of "
        f"{report['strengths'] * headline['of']}.",
        "## Table",
        RULE,
        _markdown(*_overview(report)),
        "## Faults",
        _markdown(["fault", "definition, with strength s from 1 to 8"], [[n, t] for n, t in report["faults"].items()]),
        "## Metrics",
        _markdown(
            ["metric", "definition", "better", "claims to see"],
            [
                [name, one["what"], "more" if one["more"] else "less", ", ".join(one["claims"]) or "-"]
                for name, one in report["metrics"].items()
            ],
        ),
        "## Figures",
    ]
    for fault in report["faults"]:
        parts += [f"### {fault.capitalize()}", _markdown(*_figures(report, fault))]
    return "\n\n".join(parts) + "\n"


def mark(one: Mapping[str, Any]) -> str:
    """A cell of the overview: sees, or the steps at which the figure worsens."""
    return "sees" if one["sees"] else f"{one['falls']}{' prefers' if one['prefers'] else ''}"


def _lead(report: Mapping[str, Any]) -> str:
    return (
        f"Twelve faults at eight strengths are planted in real play: {len(report['players'])} players "
        f"({', '.join(report['players'])}) of {report['frames'] / report['fps']:.0f} s from {report['starts']} places "
        f"of the game of world '{report['world']}'. No model dreams here: every metric judges the clips as if they "
        "were dreams."
    )


def _overview(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [name, f"{report['metrics'][name]['seen']}", *(mark(one) for one in row.values())]
        for name, row in report["table"].items()
    ]
    return ["metric", "sees", *report["faults"]], rows


def _figures(report: Mapping[str, Any], fault: str) -> tuple[list[str], list[list[str]]]:
    rows = []
    for name, row in report["table"].items():
        one, digits = row[fault], report["metrics"][name]["digits"]
        values = (f"{one['values'][strength]:.{digits}f}" for strength in SHOWN)
        rows.append([name, *values, f"{one['falls']} of {one['steps']}", mark(one) if one["sees"] else "blind"])
    return ["metric", *(f"s = {strength}" for strength in SHOWN), "worsens", ""], rows


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
