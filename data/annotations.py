"""Annotations of a clip: a class or a caption, from the recording or from its known state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from pydantic import Field

from vidar.config import Config
from vidar.data.episode import Episode
from vidar.data.synthetic import COLOURS, KINDS, Scene, ShapesConfig
from vidar.types import VidarError

Clip = slice  # the frames of an episode that are one clip
SHAPE_CLASSES = tuple(f"{colour} {kind}" for colour in list(COLOURS)[1:] for kind in KINDS)


class AnnotationConfig(Config):
    """Base class of the configs of annotations. classes: whether they yield class numbers; otherwise captions."""

    classes: ClassVar[bool]

    @abstractmethod
    def build(self) -> Callable[[Episode, Clip], int | str]:
        """A function (episode, clip) -> class or caption, which raises VidarError if an episode has none."""


class StoredClassConfig(AnnotationConfig):
    """The number stored under `key` in the meta data of an episode."""

    classes: ClassVar[bool] = True  # True: classes; False: captions
    num_classes: int = Field(ge=1)
    key: str = "class"

    def build(self) -> Callable[[Episode, Clip], int]:
        """Returns a function of (episode, clip).

        It raises VidarError for an episode without a class, or with one out of range.
        """

        def found(episode: Episode, clip: Clip) -> int:
            value = episode.meta.get(self.key)
            if not isinstance(value, int) or not 0 <= value < self.num_classes:
                raise VidarError(f"{episode.name}: meta.{self.key} is {value!r}, not 0 .. {self.num_classes - 1}")
            return value

        return found


class StoredCaptionConfig(AnnotationConfig):
    """The caption stored with the episode."""

    classes: ClassVar[bool] = False  # True: classes; False: captions

    def build(self) -> Callable[[Episode, Clip], str]:
        """Returns a function of (episode, clip). It raises VidarError for an episode without a caption."""

        def found(episode: Episode, clip: Clip) -> str:
            if not episode.caption:
                raise VidarError(
                    f"{episode.name}: has no caption; convert its video with a NAME.txt or a metadata.csv, or train on "
                    "another data set"
                )
            return episode.caption

        return found


class ShapeClassConfig(AnnotationConfig):
    """Colour and kind of shape 1 of the world of shapes, 28 classes; only the player can hide this shape.

    `SHAPE_CLASSES` names them.
    """

    classes: ClassVar[bool] = True  # True: classes; False: captions

    def build(self) -> Callable[[Episode, Clip], int]:
        """Returns a function of (episode, clip). It raises VidarError for a recording of another world."""

        def found(episode: Episode, clip: Clip) -> int:
            kinds, colours = _shapes(episode)
            return SHAPE_CLASSES.index(f"{colours[1]} {kinds[1]}")

        return found


class ShapeCaptionConfig(AnnotationConfig):
    """A description of the scene of the world of shapes, with what the player does in these frames."""

    classes: ClassVar[bool] = False  # True: classes; False: captions

    def build(self) -> Callable[[Episode, Clip], str]:
        """Returns a function of (episode, clip). It raises VidarError for a recording of another world."""

        def found(episode: Episode, clip: Clip) -> str:
            actions = episode.actions[clip][1:, 0]  # the first action precedes the clip
            scene = Scene(ShapesConfig(), *_shapes(episode))
            return scene.caption([int(action) for action in actions])

        return found


def _shapes(episode: Episode) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Kinds and colours of an episode's shapes."""
    kinds, colours = episode.meta.get("kinds", ()), episode.meta.get("colours", ())
    if len(kinds) < 2 or len(kinds) != len(colours):
        raise VidarError(f"{episode.name}: is not a recording of the world of shapes: it names fewer than two shapes")
    return tuple(kinds), tuple(colours)
