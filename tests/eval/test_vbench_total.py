"""Totals of VBench by hand: the table of the leaderboard, with fractions, not with the code."""

import json
from fractions import Fraction as F

import pytest

from vidar.eval.vbench_total import SUITES, read_scores, total
from vidar.types import UsageError, VidarError

# score, and its normalised value by hand: (score - least) / (most - least)
STANDARD = {
    "subject_consistency": ("0.9", F(7538, 8538)),
    "background_consistency": ("0.95", F(6885, 7385)),
    "temporal_flickering": ("0.98", F(3507, 3707)),
    "motion_smoothness": ("0.96", F(2540, 2915)),
    "dynamic_degree": ("0.6", F(6, 10)),
    "aesthetic_quality": ("0.55", F(55, 100)),
    "imaging_quality": ("0.65", F(65, 100)),
    "object_class": ("0.8", F(8, 10)),
    "multiple_objects": ("0.4", F(4, 10)),
    "human_action": ("0.9", F(9, 10)),
    "color": ("0.85", F(85, 100)),
    "spatial_relationship": ("0.5", F(5, 10)),
    "scene": ("0.4111", F(1, 2)),
    "appearance_style": ("0.2", F(1991, 2846)),
    "temporal_style": ("0.182", F(1, 2)),
    "overall_consistency": ("0.273", F(3, 4)),
}
QUALITY = [*STANDARD][:7]


def scores(*left_out):
    return {name: float(score) for name, (score, _) in STANDARD.items() if name not in left_out}


def by_hand(*left_out):
    value = {name: F(0) if name in left_out else normal for name, (_, normal) in STANDARD.items()}
    quality = sum(value[name] * (F(1, 2) if name == "dynamic_degree" else 1) for name in QUALITY) / F(13, 2)
    semantic = sum(value[name] for name in STANDARD if name not in QUALITY) / 9
    return quality, semantic, (4 * quality + semantic) / 5


@pytest.mark.parametrize("suite", ["standard", "long"])
def test_the_standard_total(suite):
    made = total(scores(), suite)
    quality, semantic, whole = by_hand()
    assert made["groups"]["Quality"] == pytest.approx(float(quality), abs=1e-15)
    assert made["groups"]["Semantic"] == pytest.approx(float(semantic), abs=1e-15)
    assert made["total"] == pytest.approx(float(whole), abs=1e-15)
    assert made["missing"] == made["not_counted"] == [] and made["dimensions"]["scene"]["score"] == 0.4111
    for name, (_, normal) in STANDARD.items():
        assert made["dimensions"][name]["normalised"] == pytest.approx(float(normal), abs=1e-15), name


def test_missing_dimensions_count_as_zero_and_are_named():
    gone = ("dynamic_degree", "scene")
    made = total({**scores(*gone), "sharpness": 1.0})
    assert made["missing"] == [*gone] and made["not_counted"] == ["sharpness"]
    assert made["total"] == pytest.approx(float(by_hand(*gone)[2]), abs=1e-15)
    assert made["dimensions"]["scene"] == {"score": None, "normalised": None, "weight": 1.0}
    with pytest.raises(VidarError, match="2 of 16 dimensions have no score: dynamic_degree, scene"):
        total(scores(*gone), strict=True)


def test_perfect_and_worst_scores():
    for suite, each in SUITES.items():
        members = {name: one for group in each.groups.values() for name, one in group.items()}
        assert total({name: one.most for name, one in members.items()}, suite)["total"] == pytest.approx(1, abs=1e-15)
        assert total({name: one.least for name, one in members.items()}, suite)["total"] == 0.0
        assert len(members) == {"standard": 16, "long": 16, "i2v": 9, "vbench2": 18}[suite]


def test_image_to_video():
    """Camera motion has a tenth of the weight, flickering none; both halves count equally."""
    given = {name: float(STANDARD[name][0]) for name in QUALITY}
    made = total({**given, "camera_motion": 0.5, "i2v_subject": 0.9, "i2v_background": 0.95}, "i2v")
    first = (F(1, 10) * F(1, 2) + F(7538, 8538) + F(6885, 7385)) / F(21, 10)
    second = sum(STANDARD[name][1] * (F(1, 2) if name == "dynamic_degree" else 1) for name in QUALITY)
    second = (second - STANDARD["temporal_flickering"][1]) / F(11, 2)
    assert made["total"] == pytest.approx(float((first + second) / 2), abs=1e-15)
    assert made["not_counted"] == ["temporal_flickering"]


def test_vbench_2_is_the_mean_of_group_means():
    names = {
        "Creativity": ["Composition", "diversity"],
        "Commonsense": ["Instance Preservation", "Motion_Rationality"],
        "Physics": ["Material", "Mechanics", "Multi-View_Consistency", "thermotics"],
        "Human_Fidelity": ["Anatomy", "Human_Clothes", "Human Identity"],
    }
    given = {name: (1 + n) / 10 for each in names.values() for n, name in enumerate(each)}
    made = total(given, "vbench2")
    assert made["groups"] == pytest.approx(
        {"Creativity": 0.15, "Commonsense": 0.15, "Controllability": 0, "Human_Fidelity": 0.2, "Physics": 0.25}
    )
    assert made["total"] == pytest.approx(0.75 / 5) and len(made["missing"]) == 7 and not made["not_counted"]


def test_files_of_the_official_package(tmp_path):
    first, second = tmp_path / "a_eval_results.json", tmp_path / "b_eval_results.json"
    first.write_text(json.dumps({"color": [0.5, [{"video_path": "x", "video_results": 1}]], "scene": 0.25}))
    second.write_text(json.dumps({"camera_motion": [0.75, {"pan_left": 1.0}, []], "scene": [0.25, []]}))
    assert read_scores([first, second]) == {"color": 0.5, "scene": 0.25, "camera_motion": 0.75}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not readable as JSON"),
        ("[1]", "expected an object"),
        ('{"color": []}', "color has no finite score"),
        ('{"color": [NaN, []]}', "color has no finite score"),
        ('{"color": "high"}', "color has no finite score"),
        ('{"color": 0.25}', "color is 0.25, another file says 0.5"),
    ],
)
def test_wrong_files_are_named(tmp_path, content, problem):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{"color": 0.5}')
    bad.write_text(content)
    with pytest.raises(VidarError, match=problem) as raised:
        read_scores([good, bad])
    assert str(bad) in str(raised.value)


def test_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="has no 'standrd'; did you mean standard"):
        total({}, "standrd")
    with pytest.raises(UsageError, match="at least one file"):
        read_scores([])
    with pytest.raises(VidarError, match="not readable as results"):
        read_scores([tmp_path / "no.json"])
