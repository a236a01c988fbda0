"""Finding recipes, and the table of systems. A recipe is a public function of this package with a `preset`.

`python -m vidar.configs.catalog` prints the table that README.md beside this file holds.
"""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_type_hints

import torch
from pydantic import ValidationError, validate_call
from torch import nn

from vidar.config import Config, first_problem, load_file, override, parse_value, resolve
from vidar.train.fit import TrainConfig
from vidar.types import UsageError
from vidar.world.pictures import PicturesConfig
from vidar.world.world import WorldConfig

Recipe = Callable[..., Config]
Found = TypeVar("Found", bound=Config)


class Status(NamedTuple):
    """state: trainable (runs; nothing measured yet), measured, shipped (weights come with the package).

    measured: the figure, with command and date in README.md; "-" where there is none.
    """

    state: Literal["trainable", "measured", "shipped"] = "trainable"
    measured: str = "-"


STATUS: dict[str, Status] = {
    "acdit": Status("trainable", "not trained; networks of 130.7, 460.4, 676.2 and 954.0 M (`preset=b, l, xl, h`)"),
    "acdit_doom": Status(
        "measured",
        "64 held-out games: +1.03 dB over copy-last on frames 1-8, +1.16 [0.79, 1.53] on 1-16, +0.43 dB [0.25, 0.62] "
        "over shuffled actions on frames 4-16, sharpness 69 % of real (`vidar eval runs/acdit_doom/model --suite "
        "world`); `minutes=15` on a third of a core, 303 steps",
    ),
    "tokenizer_doom": Status(
        "shipped",
        "PSNR 32.5 dB [31.7, 33.3] over 64 held-out episodes, own decoder (`python scripts/evaluate_tokenizer.py "
        "runs/tokenizer_doom/model runs/data/doom`); the encoder ships; 17 minutes on one thread",
    ),
    "decoder_doom": Status(
        "shipped",
        "dreams of 32 held-out games: sharpness 72 % of real over frames 1-16 (`vidar demo`); 104 minutes on one "
        "thread in eight parts",
    ),
    "idm": Status(
        "shipped",
        "balanced accuracy on held-out steps: turning 0.962, forward 0.968, sideways 0.919 (`python "
        "scripts/evaluate_idm.py vidar/pretrained/doom_idm runs/data/doom`); 45 minutes on one thread",
    ),
    "ca2vdm": Status("trainable", "not trained; network of 763.9 M (`preset=xl2`)"),
    "ca2vdm_doom": Status(
        "measured",
        "32 held-out games: +0.45 dB over copy-last on frames 1-8, +0.78 [0.43, 1.14] on 1-16, +0.36 dB [-0.25, 0.97] "
        "over shuffled actions on frames 4-16, sharpness 70 % of real (`vidar eval runs/ca2vdm_doom/model --suite "
        "world --episodes 32 --frames 16`); `minutes=15` and once more with `start=`, 911 steps, on a third of a "
        "core. Two solver steps were chosen on these games: after 367 steps +0.30 dB on frames 1-8, with four -0.06",
    ),
    "mmpl_doom": Status("trainable", "not trained"),
    "mmpl_shapes": Status(
        "measured",
        "16 held-out episodes, three seeds: +0.47 dB over copy-last on frames 1-8, +1.58 on 65-120, where plain "
        "autoregression has +0.53 and +1.09 (`python scripts/compare_drift.py runs/mmpl_shapes/model "
        "runs/world_shapes/model --frames 120 --episodes 16`); `minutes=15` on half a core",
    ),
    "infinity": Status("trainable", "not trained; networks of 2.2 and 8.4 B (`preset=2b, 8b`)"),
    "infinity_shapes": Status(
        "measured",
        "colours asked for are there in 0.41 [0.38, 0.45], by chance in 0.33, in real pictures through its "
        "tokenizer in 0.75; sharpness 18 % of real (`python scripts/evaluate_pictures.py runs/infinity_shapes/model "
        "runs/data/shapes --pictures 128`); `minutes=9`, one thread",
    ),
    "infinitystar": Status("trainable", "not trained; network of 9.3 B (`preset=8b`)"),
    "infinitystar_shapes": Status(
        "measured",
        "colours asked for are there in 0.37 [0.32, 0.41], by chance in 0.31 [0.27, 0.35], in real ones through its "
        "tokenizer in 0.71; sharpness 14 % of real (`python scripts/evaluate_pictures.py "
        "runs/infinitystar_shapes/model runs/data/shapes --pictures 128`); `minutes=14`, one thread",
    ),
    "outcome": Status(),
    "tokenizer_infinity_shapes": Status(
        "measured",
        "PSNR 22.5 dB [22.2, 22.8], SSIM 0.86 over 64 held-out episodes (`python scripts/evaluate_tokenizer.py "
        "runs/tokenizer_infinity_shapes/model runs/data/shapes`); `minutes=5`, one thread",
    ),
    "tokenizer_infinitystar_shapes": Status(
        "measured",
        "PSNR 20.3 dB [20.0, 20.6], SSIM 0.78 over 64 held-out episodes (`python scripts/evaluate_tokenizer.py "
        "runs/tokenizer_infinitystar_shapes/model runs/data/shapes`); `start=runs/tokenizer_infinity_shapes/model "
        "minutes=9`, one thread (from nothing, in 7 minutes, 17.4 dB)",
    ),
    "tokenizer_nfd": Status(),
    "tokenizer_own": Status(),
    "tokenizer_shapes": Status(
        "measured",
        "PSNR 27.3 dB [26.9, 27.7], SSIM 0.94 over 64 held-out episodes (`python scripts/evaluate_tokenizer.py "
        "runs/tokenizer_shapes/model runs/data/shapes`); `minutes=5`, one thread",
    ),
    "tokenizer_var_shapes": Status(
        "measured",
        "PSNR 19.8 dB [19.5, 20.1], SSIM 0.77 over 64 held-out episodes (`python scripts/evaluate_tokenizer.py "
        "runs/tokenizer_var_shapes/model runs/data/shapes`); `minutes=4`, one thread",
    ),
    "tokenizer_video_shapes": Status(
        "measured",
        "PSNR 24.8 dB [24.5, 25.1], SSIM 0.90 over 64 held-out episodes (`python scripts/evaluate_tokenizer.py "
        "runs/tokenizer_video_shapes/model runs/data/shapes`); `start=runs/tokenizer_shapes/model minutes=8`, one "
        "thread",
    ),
    "tokenizer_videoar_doom": Status(
        "measured",
        "PSNR 30.6 dB [29.8, 31.5], SSIM 0.81 over 64 held-out episodes, perplexity of the last scale 11,053 of 12,380 "
        "(`python scripts/evaluate_tokenizer.py runs/tokenizer_videoar_doom/model runs/data/doom`); from the tokenizer "
        "of `doom` (`start=vidar/pretrained/doom/tokenizer optim.lr=6e-4 minutes=12`), one thread",
    ),
    "tokenizer_videoar_shapes": Status(
        "measured",
        "PSNR 22.3 dB [22.0, 22.6], SSIM 0.86 over 64 held-out episodes (`python scripts/evaluate_tokenizer.py "
        "runs/tokenizer_videoar_shapes/model runs/data/shapes`); `minutes=4`, one thread",
    ),
    "xar": Status("trainable", "not trained; networks of 173.9, 612.8 and 1,190 M (`preset=b, l, h`)"),
    "xar_cells_doom": Status("trainable", "not trained"),
    "xar_scales_doom": Status("trainable", "not trained"),
    "xar_subsamples_doom": Status("trainable", "not trained"),
    "xar_doom": Status(
        "measured",
        "64 held-out games: +1.41 dB over copy-last on frames 1-8, +1.33 [0.95, 1.72] on 1-16, +0.66 dB [0.26, 1.07] "
        "over shuffled actions on frames 4-16, sharpness 76 % of real (`vidar eval runs/xar_doom/model --suite "
        "world`); `minutes=15` on a third of a core, 384 steps",
    ),
    "var": Status("trainable", "not trained; networks of 313, 604, 1,037 and 2,016 M (`preset=d16, d20, d24, d30`)"),
    "var_shapes": Status(
        "measured",
        "colours asked for are there in 0.31 [0.22, 0.39], by chance in 0.15, in real pictures through its "
        "tokenizer in 0.38; sharpness 25 % of real (`python scripts/evaluate_pictures.py runs/var_shapes/model "
        "runs/data/shapes --pictures 128`); `minutes=7`, one thread",
    ),
    "videoar_doom": Status(
        "measured",
        "64 held-out games: +2.26 dB over copy-last on frames 1-8, +2.46 [1.81, 3.12] on 1-16, +1.40 dB [0.84, 1.96] "
        "over shuffled actions on frames 4-16, keys read back 0.76 of real, sharpness 7 % of real (`vidar eval "
        "runs/videoar_doom/model --suite world`); `minutes=80`, one thread, 2,156 steps of 8 clips of 227,616 frames",
    ),
    "videoar_shapes": Status(
        "measured",
        "below baseline: 64 held-out episodes: -0.55 dB [-0.83, -0.26] over copy-last on frames 1-16, +0.59 dB [0.30, "
        "0.87] over shuffled actions on frames 4-16, sharpness 24 % of real (`vidar eval runs/videoar_shapes/model "
        "--suite world --data runs/data/shapes --frames 16`); `minutes=9`, and 14 more with `start=`, one thread",
    ),
    "world_doom": Status(
        "shipped",
        "32 held-out games: +3.15 dB over copy-last on frames 1-16, +2.83 dB over shuffled actions on frames 4-16 "
        "(`vidar demo`); 2,000 frames: looks outside the real range 7.0, 0.7 and 1.4 % (`vidar eval doom --suite "
        "endless`); 274 minutes on one thread, 78 on two",
    ),
    "world_doom_one_call": Status(
        "measured",
        "64 held-out games, one call a frame: +3.18 dB [2.54, 3.82] over copy-last on frames 1-16, +2.20 dB [1.55, "
        "2.84] over shuffled actions on 4-16, sharpness 68 % of real, keys read back 0.889 of the game's (`vidar eval "
        "runs/world_doom_one_call/model --suite world`); in two calls +2.36, +1.81, 70 %, 0.899, every line of endless "
        "play and survival 1,603 frames, its teacher's 1,117; `minutes=26` from `doom`, then 45 and 32 from itself",
    ),
    "world_doom_self_forcing": Status("trainable", "not trained"),
    "world_doom_scm": Status("trainable", "not trained"),
    "world_doom_shortcut": Status("trainable", "not trained"),
    "world_doom_student": Status(),
    "world_nfd": Status("trainable", "not trained; networks of 130.7, 308.7 and 776.9 M (`preset=130m, 310m, 774m`)"),
    "world_own": Status(),
    "world_shapes": Status(
        "measured",
        "16 held-out episodes, three seeds: +0.53 dB over copy-last on frames 1-8, +1.09 on 65-120 (`python "
        "scripts/compare_drift.py runs/mmpl_shapes/model runs/world_shapes/model --frames 120 --episodes 16`); "
        "`minutes=10` on half a core",
    ),
}


def recipes() -> dict[str, Recipe]:
    """All recipes by name."""
    package = import_module("vidar.configs")
    found: dict[str, Recipe] = {}
    for module in pkgutil.iter_modules(package.__path__):
        for name, value in vars(import_module(f"vidar.configs.{module.name}")).items():
            own = inspect.isfunction(value) and value.__module__ == f"vidar.configs.{module.name}"
            if own and not name.startswith("_") and "preset" in inspect.signature(value).parameters:
                found[name] = value
    return dict(sorted(found.items()))


def find(name: str) -> Recipe:
    """A recipe by name. Raises UsageError with near matches."""
    known = recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"valid: {', '.join(known)}"
        raise UsageError(f"no recipe {name!r}; {hint}")
    return known[name]


def resolve_recipe(name: str, assignments: Iterable[str] = ()) -> Config:
    """A recipe with its arguments, or a file, with overrides, as one config. Raises UsageError naming the key.

    name=value is an argument of the recipe or, where it has none of that name, a field of its result.
    """
    if Path(name).suffix in (".yaml", ".yml", ".json"):
        return _overridden(load_file(name), assignments)
    recipe, texts = find(name), list(assignments)
    arguments = inspect.signature(recipe).parameters
    fields = [text for text in texts if (key := _key(text)) in TrainConfig.model_fields and key not in arguments]
    try:
        config = resolve(validate_call(recipe), [text for text in texts if text not in fields])
    except ValidationError as error:  # an argument of the recipe itself
        raise UsageError(f"recipe {name}: {first_problem(error)}") from None
    return _overridden(config, fields)


def _key(text: str) -> str:
    key, equals, _ = text.partition("=")
    return key if equals else ""


def _overridden(config: Config, assignments: Iterable[str]) -> Config:
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} is not an assignment; write key=value")
        config = override(config, key, parse_value(value))
    return config


def components(config: Config) -> dict[str, Config]:
    """The networks of a config by field: the outermost configs whose `build()` promises an nn.Module."""
    return dict(_components(config, "model"))


def _components(config: Config, name: str) -> Iterator[tuple[str, Config]]:
    build = getattr(config, "build", None)
    made = get_type_hints(build).get("return") if build else None
    if inspect.isclass(made) and issubclass(made, nn.Module):
        yield name, config
        return
    for field in type(config).model_fields:
        value = getattr(config, field)
        if isinstance(value, Config):
            yield from _components(value, field)


def on_meta(config: Config) -> nn.Module:
    """The network of a config without storage."""
    with torch.device("meta"):
        return config.build()  # type: ignore[attr-defined]


def parameters(config: Config) -> dict[str, int]:
    """Weights of each network of a config."""
    return {name: sum(p.numel() for p in on_meta(part).parameters()) for name, part in components(config).items()}


def find_world(config: Config) -> WorldConfig | None:
    """The world that a config trains, if it does."""
    return _find(config, WorldConfig)


def find_pictures(config: Config) -> PicturesConfig | None:
    """The model of pictures that a config trains, if it does."""
    return _find(config, PicturesConfig)


def _find(config: Config, kind: type[Found]) -> Found | None:
    if isinstance(config, kind):
        return config
    parts = [getattr(config, field) for field in type(config).model_fields]
    found = [_find(part, kind) for part in parts if isinstance(part, Config)]
    return next((one for one in found if one is not None), None)


def systems() -> list[dict[str, Any]]:
    """The table of systems, one row a recipe."""
    return [_system(name, recipe) for name, recipe in recipes().items()]


def _system(name: str, recipe: Recipe) -> dict[str, Any]:
    config, status = recipe(), STATUS.get(name, Status())
    tiny = sum(parameters(recipe(preset="tiny")).values())
    return {
        "recipe": name,
        "what": (inspect.getdoc(recipe) or "").splitlines()[0],
        "parameters": sum(parameters(config).values()),
        "tiny": tiny,
        "order": _order(config),
        "status": status.state,
        "measured": status.measured,
    }


def _order(config: Config) -> str:
    """Units and relations in words."""
    world, pictures = find_world(config), find_pictures(config)
    if pictures is not None:
        return _pyramids(pictures)
    if world is None:
        return "-"
    order, grid, objective = world.system()
    relations = ", ".join(
        f"{name} (ring {'all' if relation.capacity is None else relation.capacity} sites)"
        for name, relation in order.relations.items()
    )
    sizes = " + ".join(str(len(grid.sites(unit))) for unit in range(objective.period))
    return f"{'endless' if order.endless else order.num_units} units of {sizes} sites; {relations}"


def _pyramids(pictures: PicturesConfig) -> str:
    order, grid, objective = pictures.system()
    counts = [sum(t * h * w for t, h, w in pyramid.sizes) for pyramid in objective.pyramids]
    return (
        f"{order.num_units} units in {len(counts)} pyramid{'s' * (len(counts) > 1)} of "
        f"{' + '.join(map(str, counts))} sites; {', '.join(order.relations)} (ring {grid.num_sites} sites)"
    )


def markdown() -> str:
    """The table of README.md."""
    rows = systems()
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    shown = ([f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()] for row in rows)
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in shown)])


if __name__ == "__main__":
    print(markdown())
