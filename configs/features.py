"""The features that each kind of order supports, or the reason why not; the code that implements a feature is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from textwrap import wrap
from typing import Any, Protocol

from vidar.conditioning.compose import ComposeConditionerConfig
from vidar.conditioning.config import Told
from vidar.conditioning.label import LabelEmbedConfig
from vidar.configs.catalog import find_system, recipes
from vidar.core.system import System
from vidar.nn.static import check_static
from vidar.rollout.turns import check_in_turn
from vidar.sampling.guidance import GuidanceConfig
from vidar.synth.driver import segment_frames
from vidar.types import VidarError

KINDS = {
    "frames": "world_nfd",
    "scales": "videoar_doom",
    "blocks": "acdit_doom",
    "plans": "mmpl_doom",
    "pictures": "infinitystar_shapes",
}


class Model(Protocol):
    """The config of a model."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    def system(self) -> System[Any]:
        """The System that the config compiles to."""
        ...


Check = Callable[[Any], None]  # raises VidarError with the reason if the model lacks the feature


def guidance(model: Any) -> None:
    """Classifier-free guidance."""
    model.replace(guidance=GuidanceConfig()).system()


def text(model: Any) -> None:
    """A prompt or a class beside, or in place of, actions."""
    reader = model.conditioner
    if model.actions is not None:
        label = LabelEmbedConfig(num_labels=2, width=model.net.backbone.width)
        reader = ComposeConditionerConfig(parts={"actions": reader, "label": label})
    told = model.replace(net=model.net.replace(conditioner=reader))
    told.check_told(Told("red") if "prompt" in told.accepts else Told(label=0))
    told.system()


def play(model: Model) -> None:
    """Frames while keys are pressed: `vidar play`, the gymnasium environment."""
    check_in_turn(model.system(), f"model {model.name!r}")


def synth(model: Any) -> None:
    """Long videos by many workers: `vidar synth`."""
    segment_frames(model, None)


def compiled(model: Model) -> None:
    """Network calls compiled as functions of static shapes."""
    check_static(model.system().order.relations.values())


def reencode(model: Model) -> None:
    """Frames decoded and encoded anew every so often (VideoAR)."""
    play(model)


def recache(model: Model) -> None:
    """Keys made anew where actions change (LongLive)."""
    play(model)


def speculation(model: Model) -> None:
    """Frames generated before their action is known, under the keys that are held."""
    play(model)


def rows(model: Model) -> None:
    """Rows of one batch that start and stop independently."""
    check_in_turn(model.system(), f"model {model.name!r}")


CHECKS: tuple[Check, ...] = (guidance, text, play, synth, compiled, reencode, recache, speculation, rows)


def table() -> list[dict[str, str]]:
    """One record per feature: its name and, for each kind of order, "yes" or a one-line reason why not."""
    models = {kind: find_system(recipes()[recipe](preset="tiny")) for kind, recipe in KINDS.items()}
    return [
        {"feature": check.__name__, **{kind: answer(check, model) for kind, model in models.items()}}
        for check in CHECKS
    ]


def answer(check: Check, model: Any) -> str:
    """Either "yes" or the reason why not."""
    try:
        check(model)
    except VidarError as error:
        return str(error)
    return "yes"


def listing(found: Sequence[dict[str, str]], width: int) -> Iterator[str]:
    """One line per feature with yes or the number of a reason; the numbered reasons follow."""
    reasons = list(dict.fromkeys(one[kind] for one in found for kind in KINDS if one[kind] != "yes"))
    yield f"{'':13}" + "".join(f"{kind:10}" for kind in KINDS)
    for one in found:
        cells = [one[kind] if one[kind] == "yes" else f"no ({1 + reasons.index(one[kind])})" for kind in KINDS]
        yield f"{one['feature']:13}" + "".join(f"{cell:10}" for cell in cells)
    total = [one[kind] == "yes" for one in found for kind in KINDS]
    yield f"{sum(total)} of {len(total)}; kinds by example: " + ", ".join(f"{k} {r}" for k, r in KINDS.items())
    for number, reason in enumerate(reasons, 1):
        yield from wrap(f"({number}) {reason}", width, subsequent_indent="    ")
