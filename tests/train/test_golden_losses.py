"""Golden losses: six steps of every recipe, tiny, on made-up clips, in float64 with open gates. No digit moves.

Fresh networks end in zeros, so that nothing of what they attend to reaches their loss; here every weight is drawn. In
float64 two CPUs agree to 1e-13, and one wrong pair of a mask moves a loss by 1e-8 and more.
"""

import json
import math
import platform
import sys
import tempfile
from functools import cached_property
from pathlib import Path

import pytest
import torch
from torch import nn

import vidar.core.mask
from vidar.configs.catalog import recipes
from vidar.core.mask import pair_rule
from vidar.rng import Rng
from vidar.train.config import TrainConfig
from vidar.train.fit import build
from vidar.train.loop import train_step
from vidar.types import MEMORY, QUERY

GOLDEN = Path(__file__).parent.parent / "golden" / "losses.json"
COMMAND = "python tests/train/test_golden_losses.py [RECIPE ...]"
STEPS = 6
ELSEWHERE = 1e-10  # relative, at a place that is not in the file
ROUNDED = {"idm": 1e-6, "pose": 1e-6, "depth_doom": 1e-6}  # the same, of what prepares its pictures in float32
RECIPES = {name: recipe for name, recipe in recipes().items() if isinstance(recipe(preset="tiny"), TrainConfig)}
METHODS = {name: recipe(preset="tiny").method for name, recipe in RECIPES.items()}
MASKED = [name for name, m in METHODS.items() if hasattr(m, "pictures") or hasattr(getattr(m, "world", None), "order")]


def drawn(module):
    """Every parameter from its number alone, as no two CPUs agree on a normal draw: matrices by their fan-in.

    What begins as one number everywhere, a gate or a norm, stays near it.
    """
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            noise = 2 * Rng(11).uniform("init", number, 0, parameter.shape).to(parameter) - 1
            still = bool((parameter == parameter.flatten()[0]).all())
            fan_in = math.prod(parameter.shape[1:])
            parameter.copy_(parameter + 0.087 * noise if still else noise * (3 / fan_in) ** 0.5)
    return module


def widened(value, seen):
    """The networks and objectives that a method holds, in float64."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, nn.Module):
        value.double()
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            widened(part, seen)
    elif type(value).__module__.startswith("vidar.") and hasattr(value, "__dict__"):
        if type(value).__module__.startswith("vidar.train.methods."):
            for name in dir(type(value)):  # what is read when it is first asked for
                if isinstance(getattr(type(value), name), cached_property):
                    getattr(value, name)
        if vars(value).get("dtype") is torch.float32:
            value.dtype = torch.float64
        for part in list(vars(value).values()):
            widened(part, seen)


def losses(recipe, folder, steps=STEPS):
    """The first losses."""
    from made_up import made_up

    config = made_up(recipe, folder / "tokenizer", drawn=drawn)
    data = config.data.replace(like=config.data.like.replace(batch=2))
    job = build(config.replace(optim=config.optim.replace(steps=STEPS), data=data), folder / "run", torch.device("cpu"))
    drawn(job.model)
    for module in (job.model, job.engine.averaged()):
        module.double().train()
    widened(job.method, {})
    for layer in job.model.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):  # pictures come in float32
            layer.register_forward_pre_hook(lambda layer, inputs: tuple(x.to(layer.weight.dtype) for x in inputs))
    made = []
    for index in range(steps):
        lr = config.optim.lr_at(job.counters.step, job.progress())
        made.append(train_step(job, job.data.batch(index), lr)["loss"].detach())
        job.counters.cursor += 1
        job.counters.step += 1
    return [float(loss) for loss in made]


def allowed(name):
    """By what another place may be off."""
    return ROUNDED.get(name, ELSEWHERE)


def place():
    """What the last digits depend on: the version of torch and the family of the CPU."""
    file, known = Path("/proc/cpuinfo"), {}
    for line in reversed(file.read_text().splitlines() if file.is_file() else []):  # the first CPU stands last
        key, _, value = line.partition(":")
        known[key.strip()] = value.strip()
    family = " ".join(known.get(key, "?") for key in ("vendor_id", "cpu family", "model"))
    return {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cpu": family,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def golden(name):
    """The losses of a recipe here, True; or those of the first place that has them, False."""
    blocks = [block for block in json.loads(GOLDEN.read_text())["places"] if name in block["losses"]]
    assert blocks, f"{name} has no golden losses; run: {COMMAND}"
    known = [block["losses"][name] for block in blocks if block["place"] == place()]
    return (known[0], True) if known else (blocks[0]["losses"][name], False)


def far(ours, theirs, off):
    """The first step at which two lists of losses are off by more than so much, relative; None: they are not."""
    assert len(ours) == len(theirs)
    return next((n for n, (a, b) in enumerate(zip(ours, theirs), 1) if not abs(a - b) <= off * abs(b)), None)


@pytest.mark.parametrize("name", RECIPES)
def test_losses_are_golden(name, tmp_path, one_thread):
    ours, (theirs, known) = losses(RECIPES[name], tmp_path), golden(name)
    step = far(ours, theirs, 0.0 if known else allowed(name))
    assert step is None, f"step {step}: {ours}, golden {theirs}; where that is wanted, run: {COMMAND}"


def one_less(relation, cell_q, cell_k, unit_q, unit_k, role_q, role_k):
    """`pair_rule`, but the newest reader of what is asked misses the oldest other cell that it would read."""
    told = pair_rule(relation, cell_q, cell_k, unit_q, unit_k, role_q, role_k)
    asks = (role_q == QUERY) if bool((role_q == QUERY).any()) else (role_q == MEMORY)
    reader = cell_q == torch.where(asks, cell_q, -1).max()
    others = told & reader & asks & (cell_q != cell_k)
    return told & ~(reader & asks & (cell_k == torch.where(others, cell_k, 1 << 40).min()))


@pytest.mark.parametrize("name", MASKED)
def test_one_wrong_pair_of_a_mask_moves_a_digit(name, tmp_path, monkeypatch, one_thread):
    """Ten times what a place that is not in the file may be off by."""
    monkeypatch.setattr(vidar.core.mask, "pair_rule", one_less)
    assert far(losses(RECIPES[name], tmp_path, 1), golden(name)[0][:1], 10 * allowed(name))


def test_nothing_else_is_golden_and_all_places_agree():
    blocks = json.loads(GOLDEN.read_text())["places"]
    assert sorted({name for block in blocks for name in block["losses"]}) == sorted(RECIPES), f"run: {COMMAND}"
    for block in blocks:
        for name, known in block["losses"].items():
            assert far(known, golden(name)[0], allowed(name)) is None, f"{name}: {block['place']}"


def stale(known, ours, off):
    return len(known) != len(ours) or far(known, ours, off) is not None


def merged(known, made):
    """The blocks of all places with what was made here, losses by recipe.

    What another place says of these recipes goes where it is further off: it is of before the change.
    """
    blocks = [{"place": block["place"], "losses": dict(block["losses"])} for block in known]
    if place() not in [block["place"] for block in blocks]:
        blocks.append({"place": place(), "losses": {}})
    for block in blocks:
        for name, ours in made.items():
            if block["place"] == place():
                block["losses"][name] = ours
            elif name in block["losses"] and stale(block["losses"][name], ours, allowed(name)):
                del block["losses"][name]
        block["losses"] = {name: block["losses"][name] for name in sorted(block["losses"]) if name in RECIPES}
    return [block for block in blocks if block["losses"]]


def test_a_new_place_is_added_and_what_is_of_before_a_change_goes():
    here, there = {"place": place(), "losses": {"var": [2.0] * STEPS}}, {"place": {"cpu": "other"}}
    there["losses"] = {"var": [1.0] * STEPS, "xar": [3.0 + 1e-12] * STEPS, "gone": [1.0] * STEPS}
    made = {"var": [5.0] * STEPS, "xar": [3.0] * STEPS}
    ours = {"place": place(), "losses": {"var": [5.0] * STEPS, "xar": [3.0] * STEPS}}
    assert merged([there], made) == [{"place": there["place"], "losses": {"xar": [3.0 + 1e-12] * STEPS}}, ours]
    assert merged([here], {"xar": made["xar"]})[0]["losses"] == {"var": [2.0] * STEPS, "xar": [3.0] * STEPS}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        made = {name: losses(RECIPES[name], Path(scratch) / name) for name in sys.argv[1:] or RECIPES}
    known = json.loads(GOLDEN.read_text())["places"] if GOLDEN.is_file() else []
    GOLDEN.write_text(json.dumps({"regenerate": COMMAND, "places": merged(known, made)}, indent=1) + "\n")
