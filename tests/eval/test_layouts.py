"""The table of actions of the layouts, and their side files read back."""

from collections import Counter

import numpy as np
import pytest

from vidar.eval.controllability import KEYS
from vidar.eval.layouts import LAYOUTS, SCRIPTS, script_of
from vidar.types import VidarError


def test_the_actions_of_gameworld():
    """6 single keys, 13 pairs without opposite ones, 48 keys with a camera, 8 cameras, and none: 76."""
    kinds = Counter((len(one.keys), any(one.camera)) for one in SCRIPTS)
    assert kinds == {(1, False): 6, (2, False): 13, (1, True): 48, (0, True): 8, (0, False): 1}
    assert len({one.name for one in SCRIPTS}) == 76
    assert len({one.camera for one in SCRIPTS}) == 9 and {key for one in SCRIPTS for key in one.keys} == {*KEYS}
    named = {one.name: one for one in SCRIPTS}
    assert named["forward_left"].keys == ("forward", "left") and "forward_back" not in named
    assert named["jump_camera_ul"].camera == (-1, -1) and named["camera_dr"].camera == (1, 1)  # up and left: negative


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_tell_their_actions(name):
    """What is written for a script is read back as its actions."""
    layout = LAYOUTS[name]
    files = [layout.file(index, script) for index, script in enumerate(SCRIPTS)]
    assert len(set(files)) == 76
    for file, script in zip(files, SCRIPTS):
        assert script_of(file) == script
        if layout.read is None:
            continue
        found, wanted = layout.read(layout.write(script, 7), 7), script.controls(7)
        known = [KEYS.index(key) for key in (("forward", "back", "left", "right") if name == "mind" else KEYS)]
        assert np.array_equal(found.keys[:, known], wanted.keys[:, known])
        assert np.array_equal(found.camera, wanted.camera)
    assert layout.pattern == {"gameworld": "*_*.mp4", "mind": "*_*/video.mp4", "wbench": "*_*/turn_0.mp4"}[name]


def test_names_of_other_actions():
    for file in ("forward.mp4", "3_fly.mp4", "x_forward.mp4", "3_forward_back.mp4"):
        with pytest.raises(VidarError, match="is not INDEX_ACTION"):
            script_of(file)


def test_the_generated_part_of_a_mind_clip():
    """A clip may begin at mark_time: its actions are then the last rows."""
    rows = [{"time": t, "ws": 1 if t < 4 else 2, "ad": 0, "ud": 0, "lr": 1} for t in range(10)]
    content = {"mark_time": 4, "total_time": 10, "data": rows}
    read = LAYOUTS["mind"].read
    assert read(content, 10).keys[:, 0].sum() == 4
    part = read(content, 6)
    assert len(part) == 6 and part.keys[:, 1].all() and (part.camera == [0, -0.05]).all()
    for change, frames, problem in (
        ({}, 7, "7 frames, but data has 10 rows, 6 from mark_time on"),
        ({"total_time": 9}, 10, "total_time is 9, but there are 10 rows"),
        ({"data": [{**rows[0], "ws": 3}, *rows[1:]]}, 10, "values other than 0, 1 and 2"),
    ):
        with pytest.raises(VidarError, match=problem):
            read({**content, **change}, frames)


def test_a_wbench_file_that_does_not_fit():
    layout = LAYOUTS["wbench"]
    content = layout.write(SCRIPTS[0], 9)
    with pytest.raises(VidarError, match=r"8 frames, but turns.json says 9"):
        layout.read(content, 8)
    content["turns"][0]["keys"] = ["fly"]
    with pytest.raises(VidarError, match="has the key 'fly'"):
        layout.read(content, 9)
