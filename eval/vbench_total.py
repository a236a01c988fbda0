"""Totals of VBench from its own result files, as its leaderboards compute them: pure arithmetic.

A dimension's score s becomes (s - least) / (most - least), times its weight. A group is the sum of these over the sum
of the weights of all its dimensions; a total is the weighted mean of its groups. A dimension without a score counts as
0, which is the official rule, and is named.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vidar.config import unknown_key
from vidar.types import UsageError, VidarError


@dataclass(frozen=True)
class Dimension:
    """least, most: the scores that become 0 and 1."""

    least: float = 0.0
    most: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True)
class Suite:
    """groups: dimensions by name, by group. weights: of the groups in the total."""

    groups: Mapping[str, Mapping[str, Dimension]]
    weights: Mapping[str, float]


PLAIN = Dimension()
SMOOTH = Dimension(0.706, 0.9975)
QUALITY = {
    "subject_consistency": Dimension(0.1462),
    "background_consistency": Dimension(0.2615),
    "temporal_flickering": Dimension(0.6293),
    "motion_smoothness": SMOOTH,
    "aesthetic_quality": PLAIN,
    "imaging_quality": PLAIN,
    "dynamic_degree": Dimension(weight=0.5),
}
SEMANTIC = {
    "object_class": PLAIN,
    "multiple_objects": PLAIN,
    "human_action": PLAIN,
    "color": PLAIN,
    "spatial_relationship": PLAIN,
    "scene": Dimension(0.0, 0.8222),
    "appearance_style": Dimension(0.0009, 0.2855),
    "temporal_style": Dimension(0.0, 0.364),
    "overall_consistency": Dimension(0.0, 0.364),
}
I2V = {
    "camera_motion": Dimension(weight=0.1),
    "i2v_subject": Dimension(0.1462),
    "i2v_background": Dimension(0.2615),
}
VBENCH2 = {
    "Creativity": ("Composition", "Diversity"),
    "Commonsense": ("Instance_Preservation", "Motion_Rationality"),
    "Controllability": (
        "Camera_Motion",
        "Complex_Landscape",
        "Complex_Plot",
        "Dynamic_Attribute",
        "Dynamic_Spatial_Relationship",
        "Human_Interaction",
        "Motion_Order_Understanding",
    ),
    "Human_Fidelity": ("Human_Anatomy", "Human_Clothes", "Human_Identity"),
    "Physics": ("Material", "Mechanics", "Multi-View_Consistency", "Thermotics"),
}
STANDARD = Suite({"Quality": QUALITY, "Semantic": SEMANTIC}, {"Quality": 4.0, "Semantic": 1.0})
SUITES: Mapping[str, Suite] = {
    "standard": STANDARD,
    "long": STANDARD,
    "i2v": Suite(
        {"I2V": I2V, "Quality": {name: one for name, one in QUALITY.items() if name != "temporal_flickering"}},
        {"I2V": 1.0, "Quality": 1.0},
    ),
    "vbench2": Suite(
        {group: dict.fromkeys(names, PLAIN) for group, names in VBENCH2.items()}, dict.fromkeys(VBENCH2, 1.0)
    ),
}


def read_scores(files: Sequence[Path]) -> dict[str, float]:
    """Scores by dimension from files `{dimension: [score, ...]}` or `{dimension: score}`.

    Raises UsageError if no file is given, VidarError naming the file and dimension for what is no score, and for a
    dimension that two files score differently.
    """
    if not files:
        raise UsageError("give at least one file NAME_eval_results.json")
    scores: dict[str, float] = {}
    for file in files:
        for name, score in _read(file).items():
            if scores.setdefault(name, score) != score:
                raise VidarError(f"{file}: {name} is {score:g}, another file says {scores[name]:g}; leave one out")
    return scores


def total(scores: Mapping[str, float], suite: str = "standard", strict: bool = False) -> dict[str, Any]:
    """Total, groups, and the score, normalised score and weight of every dimension of a suite.

    Names are matched without case, blanks, _ and -; "Human_" may be left out. `missing` names the dimensions that count
    as 0, `not_counted` the scores that are not part of the suite.
    strict: a missing dimension raises VidarError instead. Raises UsageError for an unknown suite.
    """
    if suite not in SUITES:
        raise UsageError(unknown_key(suite, SUITES, "--suite"))
    chosen = SUITES[suite]
    given = {_plain(name): (name, score) for name, score in scores.items()}
    dimensions: dict[str, dict[str, float | None]] = {}
    groups: dict[str, float] = {}
    for group, members in chosen.groups.items():
        weighted = 0.0
        for name, one in members.items():
            score = given.pop(_plain(name), (name, None))[1]
            normalised = None if score is None else (score - one.least) / (one.most - one.least)
            dimensions[name] = {"score": score, "normalised": normalised, "weight": one.weight}
            weighted += one.weight * (normalised or 0.0)
        groups[group] = weighted / math.fsum(one.weight for one in members.values())
    missing = [name for name, one in dimensions.items() if one["score"] is None]
    if missing and strict:
        raise VidarError(f"{len(missing)} of {len(dimensions)} dimensions have no score: {', '.join(missing)}")
    weights = chosen.weights
    return {
        "suite": suite,
        "total": sum(weights[name] * groups[name] for name in groups) / math.fsum(weights.values()),
        "groups": groups,
        "dimensions": dimensions,
        "missing": missing,
        "not_counted": sorted(name for name, _ in given.values()),
    }


def _read(file: Path) -> dict[str, float]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise VidarError(f"{file}: not readable as results ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise VidarError(f"{file}: not readable as JSON; give a file NAME_eval_results.json") from None
    if not isinstance(content, dict):
        raise VidarError(f"{file}: expected an object of results by dimension")
    found: dict[str, float] = {}
    for name, value in cast(dict[str, Any], content).items():
        score = value[0] if isinstance(value, list) and value else value
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise VidarError(f"{file}: {name} has no finite score; run this dimension again, or remove it")
        found[name] = float(score)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold().removeprefix("human")
