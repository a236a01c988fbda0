"""Classes and captions of clips against the known state of the world of shapes."""

from dataclasses import replace

import numpy as np
import pytest

from vidar.data.annotations import (
    SHAPE_CLASSES,
    ShapeCaptionConfig,
    ShapeClassConfig,
    StoredCaptionConfig,
    StoredClassConfig,
)
from vidar.data.synthetic import COLOURS, KINDS, ShapesConfig
from vidar.types import VidarError

WORLD = ShapesConfig().build()


def test_classes_are_colour_and_kind_of_shape_one():
    said, seen = ShapeClassConfig().build(), set()
    assert len(SHAPE_CLASSES) == len(set(SHAPE_CLASSES)) == len(KINDS) * (len(COLOURS) - 1) == 28
    for seed in range(60):
        scene, _ = WORLD.scene(seed)
        label = said(WORLD.episode(seed, actions=np.zeros((2, 1), np.float32)), slice(0, 1))
        assert SHAPE_CLASSES[label] == f"{scene.colours[1]} {scene.kinds[1]}"
        seen.add(label)
    assert len(seen) > 15


def test_captions_say_what_the_player_does_in_these_frames():
    actions = np.array([[0], [1], [1], [1], [2], [2], [2], [2]], np.float32)
    episode = WORLD.episode(3, actions=actions)
    said, scene = ShapeCaptionConfig().build(), WORLD.scene(3)[0]
    assert said(episode, slice(0, 4)) == scene.caption([1, 1, 1]) and "moves left" in said(episode, slice(0, 4))
    assert said(episode, slice(4, 8)).endswith("moves right")
    assert said(episode, slice(2, 3)).endswith("stays")  # one frame: nothing acts inside it
    assert StoredCaptionConfig().build()(episode, slice(0, 1)) == episode.caption


def test_recordings_that_do_not_say_it():
    episode = WORLD.episode(3)
    with pytest.raises(VidarError, match="shapes-000000003: has no caption"):
        StoredCaptionConfig().build()(replace(episode, caption=""), slice(0, 1))
    with pytest.raises(VidarError, match="is not a recording of the world of shapes"):
        ShapeClassConfig().build()(replace(episode, meta={}), slice(0, 1))
    stored = StoredClassConfig(num_classes=5).build()
    assert stored(replace(episode, meta={"class": 4}), slice(0, 1)) == 4
    for meta in ({}, {"class": 5}, {"class": "red"}):
        with pytest.raises(VidarError, match=r"meta.class is .*, not 0 \.\. 4"):
            stored(replace(episode, meta=meta), slice(0, 1))
