"""The parameters of a recipe, with their defaults and a line about each: what `vidar train RECIPE --help` prints."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import reduce
from textwrap import wrap
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from vidar.configs.catalog import Recipe
from vidar.types import UsageError

ABSENT: Any = object()
PARAMETERS = {
    "preset": "Size of the networks.",
    "data": "Folder of the recorded data set.",
    "tokenizer": "Folder of the trained tokenizer.",
    "world": "Folder of the trained world.",
    "teacher": "Name or folder of the trained world that the student learns from.",
    "start": "Folder of a model whose weights training starts from; null: fresh weights.",
    "dreams": "Folder of a world whose dreams are the context of half of the clips; null: no dreams.",
    "depth": "Folder of the trained depth network.",
    "memory": "Folder of the trained memory.",
    "minutes": "Length of the training in minutes, without compilation.",
    "batch": "Clips per step; fewer need less memory.",
    "captions": "Read the captions of the recordings, and a prompt when it is used.",
    "frames": "Frames that are generated together.",
    "clip_frames": "Frames of a training clip; null: those of the preset.",
    "steps": "Network calls per frame.",
    "height": "Height of a frame in pixels.",
    "width": "Width of a frame in pixels.",
}
FIELDS = {
    "seed": "Seed of weights, noise and the order of the data.",
    "compile": "Compile the network before the first step.",
    "precision": "Number format of the forward pass: auto, bf16 or fp32.",
    "ema_decay": "Decay of the averaged weights, which are exported.",
    "log_every": "Steps between two lines of the log.",
    "sample_every": "Steps between two samples; 0: none.",
    "save_every_s": "Seconds between two checkpoints.",
    "keep_checkpoints": "Checkpoints that are kept.",
    "check_memory": "Refuse to start if the memory is too small.",
    "optim.steps": "Longest training in steps.",
    "optim.lr": "Highest learning rate.",
    "optim.warmup_steps": "Steps until the learning rate is reached.",
}


def described(name: str, make: Recipe, width: int) -> Iterator[str]:
    """The lines of the help: what the recipe is, its parameters, and the fields of the run."""
    yield from wrap(" ".join((inspect.getdoc(make) or name).partition("\n\n")[0].split()), width)
    rows = [(key, *parts) for key, parts in parameters(make).items()]
    fields = _fields(make)
    longest, values = (max(len(row[n]) for row in rows + fields) for n in (0, 1))
    for title, table in (("Parameters", rows), ("Fields of the run", fields)):
        if table:
            yield from ["", f"{title}, as KEY=VALUE, with their defaults:"]
        for key, default, doc in table:
            lead = f"  {key:{longest}}  {default:{values}}  "
            yield from wrap(doc, max(width, len(lead) + 24), initial_indent=lead, subsequent_indent=" " * len(lead))
    yield ""
    yield from wrap(f"`vidar config {name}` prints every field; any of them can be set, such as optim.clip=0.5.", width)


def parameters(make: Recipe) -> dict[str, tuple[str, str]]:
    """Name -> default and a line of text. A recipe can bring its own text: `rate: Annotated[float, "..."] = 1.0`."""
    hints, found = get_type_hints(make, include_extras=True), dict[str, tuple[str, str]]()
    for name, parameter in inspect.signature(make).parameters.items():
        hint, own = hints.get(name, Any), ""
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            own = next((extra for extra in extras if isinstance(extra, str)), "")
        choices = f" One of: {', '.join(map(str, get_args(hint)))}." if get_origin(hint) is Literal else ""
        default = "(required)" if parameter.default is parameter.empty else _text(parameter.default)
        found[name] = default, f"{own or PARAMETERS.get(name, '')}{choices}".strip()
    return found


def _fields(make: Recipe) -> list[tuple[str, str, str]]:
    """(key, value in this recipe, text) of the fields that are no parameters; none if the recipe needs arguments."""
    try:
        config = make()
    except (TypeError, UsageError):
        return []
    values = {key: reduce(lambda value, part: getattr(value, part, ABSENT), key.split("."), config) for key in FIELDS}
    return [(key, _text(value), FIELDS[key]) for key, value in values.items() if value is not ABSENT]


def _text(value: Any) -> str:
    """A value as it is typed after KEY=."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
