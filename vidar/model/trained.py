"""How long a model was trained: a number in its index, from which `play`, `generate` and `synth` warn.

It is no part of the config, so it changes no fingerprint. Models without it (shipped ones, those of earlier versions,
those that another program made) are not judged.
"""

from __future__ import annotations

from pathlib import Path

from vidar.model.load import read_index, write_index

STEPS = "_train_steps"  # in the index
FEW_STEPS = 300  # Choice: below, even the world of a simple game dissolves within seconds


def note_steps(folder: Path, steps: int | None) -> None:
    """Write the number of training steps into the index of the model in `folder`; None: not known, nothing is written.

    Raises VidarError if the index is damaged or cannot be written.
    """
    if steps is not None:
        write_index(folder, {**read_index(folder), STEPS: steps})


def trained_steps(folder: Path) -> int | None:
    """The steps that the weights of the model in `folder` were trained for, None if unknown.

    Raises VidarError if the index is damaged.
    """
    steps = read_index(folder).get(STEPS)
    return steps if type(steps) is int and steps >= 0 else None


def few_steps(folder: Path) -> str | None:
    """A line to show before the model in `folder` is used, if it was trained for too few steps.

    Raises VidarError if the index is damaged.
    """
    steps = trained_steps(folder)
    if steps is None or steps >= FEW_STEPS:
        return None
    return (
        f"{folder} was trained for only {steps} steps: expect noise or blur; to train on, repeat its `vidar train` "
        "with more minutes and --resume auto"
    )
