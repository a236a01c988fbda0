"""`vidar eval compare`: reports of one suite, compared start by start with the first of them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vidar.eval.bootstrap import RESAMPLES
from vidar.eval.compare_report import compare_page
from vidar.eval.comparison import LEVEL, compare
from vidar.eval.output import begin, folder, write
from vidar.eval.paired import VERSION, PairedReport, read_paired
from vidar.eval.provenance import shown, versions
from vidar.eval.sign_flip import DRAWN, EXACT
from vidar.types import UsageError

MARK, PAGE = "compare.json", "compare.html"


def run(reports: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], seed: int = 0) -> dict[str, Any]:
    """Compare reports, and write compare.json and compare.html into `out`. Returns the content of the former.

    reports: report.json files or their folders. Raises UsageError or VidarError in one line before anything is
    written: fewer than two reports, one that cannot be read, or reports of other starts.
    """
    if len(reports) < 2:
        raise UsageError("a comparison needs two reports or more: vidar eval compare A B --out DIR")
    place, read = folder(out, (MARK, PAGE)), [read_paired(report) for report in reports]
    found = compare(read, seed)
    words = ["vidar", "eval", "compare", *(shown(report) for report in reports), "--out", shown(out)]
    words += ["--seed", str(seed)] if seed else []
    made = {
        "version": VERSION,
        "suite": read[0].figures.pairing["suite"],
        "starts": read[0].starts,
        "reports": [_about(name, report) for name, report in zip(found.names, read)],
        "rows": {name: [asdict(row) for row in rows] for name, rows in found.rows.items()},
        "left_out": dict(found.left_out),
        "level": LEVEL,
        "tests": sum(map(len, found.rows.values())),
        "resamples": RESAMPLES,
        "sign_choices": 2 ** read[0].starts if read[0].starts <= EXACT else DRAWN,
        "seed": seed,
        "command": shlex.join(words),
        "versions": versions(),
    }
    html = compare_page(made, found, read)
    begin(place, MARK)
    write(place / PAGE, html)
    write(place / MARK, made)
    return made


def _about(name: str, report: PairedReport) -> dict[str, Any]:
    kept = ("world", "params", "steps", "command")
    return {
        "name": name,
        "file": shown(report.file),
        **{k: report.content[k] for k in kept if k in report.content},
    }
